//! The client side of the control socket: sends one request and reads the lines of the reply. Line
//! length is bounded; so is the time, except for requests of unknown duration.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::control_protocol::{self, ControlRequest};

/// Connects to the control socket, once per request.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    timeout: Duration,
    /// Maximum length of a line of the reply.
    line_bytes_max: usize,
}

impl ControlClient {
    /// A client of the socket at `path`, with a timeout of 10 s.
    pub fn new(path: PathBuf) -> Self {
        Self { path, timeout: TIMEOUT, line_bytes_max: LINE_BYTES_MAX }
    }

    /// Sends a request. `timeout` bounds the whole reply; `None` waits indefinitely.
    ///
    /// # Errors
    ///
    /// [`ClientErrorKind::Connect`], [`ClientErrorKind::Timeout`] or [`ClientErrorKind::Io`].
    pub fn send(
        &self,
        request: &ControlRequest,
        timeout: Option<Duration>,
    ) -> Result<ResponseLines, ClientError> {
        let mut stream =
            self.connect().map_err(|error| self.error(ClientErrorKind::Connect(error)))?;
        match stream.write_all(&control_protocol::encode(request)) {
            Ok(()) => {}
            // The server may have sent an error before it closed the connection.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(self.error(ClientErrorKind::from_io(error))),
        }
        let stream = BufReader::with_capacity(READ_BUFFER_BYTES, stream);
        let deadline = timeout.map(|timeout| now() + timeout);
        let line_bytes_max = self.line_bytes_max;
        Ok(ResponseLines { path: self.path.clone(), stream, deadline, line_bytes_max })
    }

    /// Sends a request and reads a one-line reply within the default timeout.
    ///
    /// # Errors
    ///
    /// Any [`ClientErrorKind`] except [`ClientErrorKind::Malformed`].
    pub fn request(&self, request: &ControlRequest) -> Result<Vec<u8>, ClientError> {
        self.request_within(request, Some(self.timeout))
    }

    /// Sends a request and reads a one-line reply; `None` waits indefinitely.
    ///
    /// # Errors
    ///
    /// As for [`Self::request`].
    pub fn request_within(
        &self,
        request: &ControlRequest,
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, ClientError> {
        let mut reply = self.send(request, timeout)?;
        match reply.next_line()? {
            Some(line) => Ok(line),
            None => Err(self.error(ClientErrorKind::NoResponse)),
        }
    }

    /// An error with the path of this socket.
    pub fn error(&self, kind: ClientErrorKind) -> ClientError {
        ClientError { path: self.path.clone(), kind }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let address = SockAddr::unix(&self.path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Also bounds connecting to a socket with a full backlog.
        socket.set_write_timeout(Some(self.timeout))?;
        socket.connect(&address)?;
        Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
    }
}

/// Reads a reply line by line.
#[derive(Debug)]
pub struct ResponseLines {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    deadline: Option<Instant>,
    line_bytes_max: usize,
}

impl ResponseLines {
    /// Reads the next line, without the newline; `None` at the end of the reply.
    ///
    /// # Errors
    ///
    /// [`ClientErrorKind::Timeout`], [`ClientErrorKind::Truncated`], [`ClientErrorKind::TooLong`]
    /// or [`ClientErrorKind::Io`].
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut line = Vec::new();
        loop {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.error(ClientErrorKind::Timeout));
            }
            if let Err(error) = self.stream.get_ref().set_read_timeout(left) {
                return Err(self.error(ClientErrorKind::from_io(error)));
            }
            let chunk = match self.stream.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The server closed the connection before it had read the whole request.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => &[],
                Err(error) => return Err(self.error(ClientErrorKind::from_io(error))),
            };
            if chunk.is_empty() {
                return match line.is_empty() {
                    true => Ok(None),
                    false => Err(self.error(ClientErrorKind::Truncated)),
                };
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(chunk.len());
            if line.len() + part > self.line_bytes_max {
                return Err(self.error(ClientErrorKind::TooLong));
            }
            line.extend_from_slice(&chunk[..part]);
            self.stream.consume(part + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }

    fn error(&self, kind: ClientErrorKind) -> ClientError {
        ClientError { path: self.path.clone(), kind }
    }
}

/// Why there is no usable response.
#[derive(Debug)]
pub struct ClientError {
    path: PathBuf,
    kind: ClientErrorKind,
}

/// Kinds of [`ClientError`].
#[derive(Debug)]
pub enum ClientErrorKind {
    /// Connecting failed.
    Connect(io::Error),
    /// The connection was closed in the middle of a line.
    Truncated,
    /// A line exceeds 64 MiB.
    TooLong,
    /// A line is not a response; the message is the parser's.
    Malformed(String),
    /// The response did not arrive in time.
    Timeout,
    /// Reading or writing failed.
    Io(io::Error),
    /// The connection was closed without a response.
    NoResponse,
}

impl ClientErrorKind {
    fn from_io(error: io::Error) -> Self {
        match matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            true => Self::Timeout,
            false => Self::Io(error),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = super::table::sanitize(&self.path.display().to_string());
        match &self.kind {
            ClientErrorKind::Connect(error) => {
                let cause = connect_error(&self.path, error);
                write!(f, "cannot connect to the control socket {path}: {cause}")
            }
            ClientErrorKind::Truncated => write!(f, "{path}: the response is incomplete"),
            ClientErrorKind::TooLong => {
                let most = LINE_BYTES_MAX >> 20;
                write!(
                    f,
                    "{path}: the response is longer than {most} MiB; is this tidegate's socket?"
                )
            }
            ClientErrorKind::Malformed(error) => write!(
                f,
                "{path}: invalid response ({error}); is another program, or another version of \
                 tidegate, listening on this socket?"
            ),
            ClientErrorKind::Timeout => {
                write!(f, "{path}: the response timed out; the process may be stopped or stuck")
            }
            ClientErrorKind::Io(error) => write!(f, "{path}: {error}"),
            ClientErrorKind::NoResponse => {
                write!(f, "{path}: the connection was closed without a response")
            }
        }
    }
}

/// Explains a failed connection and what to do about it.
fn connect_error(path: &Path, error: &io::Error) -> String {
    let is_socket = std::fs::metadata(path).map(|metadata| metadata.file_type().is_socket());
    match (error.kind(), is_socket) {
        (ErrorKind::PermissionDenied, _) => {
            "permission denied; only root and the user that tidegate runs as may use it".to_owned()
        }
        (ErrorKind::NotFound, _) => "the socket does not exist: tidegate is not running, or has \
             another control socket (--socket or TIDEGATE_SOCKET selects it), or none, as its log \
             says at the start (set control.socket to a path)"
            .to_owned(),
        (_, Ok(false)) => "the file is not a socket".to_owned(),
        (ErrorKind::ConnectionRefused, _) => {
            "connection refused; the process that created the socket has exited".to_owned()
        }
        (ErrorKind::WouldBlock | ErrorKind::TimedOut, _) => {
            "the process does not accept connections; it may be stopped or stuck".to_owned()
        }
        (_, _) => error.to_string(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a command-line client, outside of all sessions")]
fn now() -> Instant {
    Instant::now()
}

/// For connecting, and for responses that the server computes immediately.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A list of 9,000 tunnels takes about 3 MB.
const LINE_BYTES_MAX: usize = 64 << 20;
const READ_BUFFER_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A listener at a path that no other test uses.
    fn bind(name: &str) -> (PathBuf, UnixListener) {
        let name = format!("tidegate-client-{}-{name}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    #[test]
    fn missing_response_times_out() {
        let (path, _listener) = bind("silent");
        let client = ControlClient {
            timeout: Duration::from_millis(50),
            ..ControlClient::new(path.clone())
        };
        // The connection stays in the backlog and is never accepted.
        let error = client.request(&ControlRequest::Status).unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Timeout), "{error}");
        assert!(error.to_string().contains("the response timed out"), "{error}");
        // Fills the backlog.
        let mut waiting = Vec::new();
        let error = loop {
            match client.send(&ControlRequest::Status, None) {
                Ok(reply) if waiting.len() < 10_000 => waiting.push(reply),
                Ok(_) => panic!("the backlog is unbounded"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("does not accept connections"), "{error}");
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn endless_line_is_rejected() {
        let (path, listener) = bind("endless");
        let writing = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
        });
        let client = ControlClient {
            timeout: Duration::from_secs(60),
            line_bytes_max: 100_000,
            ..ControlClient::new(path.clone())
        };
        let error = client.request(&ControlRequest::Status).unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::TooLong), "{error}");
        let text = error.to_string();
        assert!(text.contains("longer than 64 MiB; is this tidegate's socket?"), "{text}");
        writing.join().unwrap();
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn timeout_bounds_the_whole_response() {
        let (path, listener) = bind("dribble");
        let (done, stop) = sync_channel::<()>(1);
        let dribble = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stop.recv_timeout(Duration::from_millis(10)).is_err() {
                let _ = stream.write_all(b"x");
            }
        });
        let client = ControlClient {
            timeout: Duration::from_millis(100),
            ..ControlClient::new(path.clone())
        };
        let error = client.request(&ControlRequest::Status).unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Timeout), "{error}");
        done.send(()).unwrap();
        dribble.join().unwrap();
        let _ = std::fs::remove_file(path);
    }
}
