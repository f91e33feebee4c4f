//! The connection: one request, and the lines of its reply, each of a bounded length and, where
//! nothing else ends a wait, within a time.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::protocol::{self, ControlRequest};

/// Where a process is asked.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    patience: Duration,
}

impl ControlClient {
    /// Asks at this socket.
    pub fn new(path: PathBuf) -> Self {
        Self { path, patience: PATIENCE }
    }

    /// Asks, and gives an answer so long from now.
    pub fn ask(
        &self,
        request: &ControlRequest,
        patience: Option<Duration>,
    ) -> Result<ResponseLines, ClientError> {
        let trouble = |what| ClientError { path: self.path.clone(), what };
        let mut stream =
            self.connect().map_err(|error| trouble(ClientErrorKind::Connect(error)))?;
        match stream.write_all(&protocol::encode(request)) {
            Ok(()) => {}
            // Whoever hangs up may have said why before.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(trouble(ClientErrorKind::of(error))),
        }
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let deadline = patience.map(|patience| now() + patience);
        Ok(ResponseLines { path: self.path.clone(), stream, deadline })
    }

    /// Asks for something that is answered at once, in one line.
    pub fn line(&self, request: &ControlRequest) -> Result<Vec<u8>, ClientError> {
        self.line_within(request, Some(self.patience))
    }

    /// The same for something that takes its time; `None`: as much as it likes.
    pub fn line_within(
        &self,
        request: &ControlRequest,
        patience: Option<Duration>,
    ) -> Result<Vec<u8>, ClientError> {
        let mut reply = self.ask(request, patience)?;
        match reply.next_line()? {
            Some(line) => Ok(line),
            None => Err(reply.trouble(ClientErrorKind::Silent)),
        }
    }

    /// What asking here failed of.
    pub fn trouble(&self, what: ClientErrorKind) -> ClientError {
        ClientError { path: self.path.clone(), what }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let address = SockAddr::unix(&self.path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Bounds the wait for a place in a full backlog as well.
        socket.set_write_timeout(Some(self.patience))?;
        socket.connect(&address)?;
        Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
    }
}

/// What is answered, line by line.
#[derive(Debug)]
pub struct ResponseLines {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    deadline: Option<Instant>,
}

impl ResponseLines {
    /// The next line, without its end; `None`: that was all.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut line = Vec::new();
        loop {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.trouble(ClientErrorKind::Late));
            }
            if let Err(error) = self.stream.get_ref().set_read_timeout(left) {
                return Err(self.trouble(ClientErrorKind::of(error)));
            }
            let chunk = match self.stream.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // It closed with our request half read.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => &[],
                Err(error) => return Err(self.trouble(ClientErrorKind::of(error))),
            };
            if chunk.is_empty() {
                return match line.is_empty() {
                    true => Ok(None),
                    false => Err(self.trouble(ClientErrorKind::Cut)),
                };
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(chunk.len());
            if line.len() + part > LINE_BYTES_MAX {
                return Err(self.trouble(ClientErrorKind::Endless));
            }
            line.extend_from_slice(&chunk[..part]);
            self.stream.consume(part + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }

    /// What this reply failed of.
    pub fn trouble(&self, what: ClientErrorKind) -> ClientError {
        ClientError { path: self.path.clone(), what }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct ClientError {
    path: PathBuf,
    what: ClientErrorKind,
}

/// Kinds of [`ClientError`].
#[derive(Debug)]
pub enum ClientErrorKind {
    /// There is no connection.
    Connect(io::Error),
    /// It was closed in the middle of a line.
    Cut,
    /// A line is longer than any answer.
    Endless,
    /// A line is no answer.
    Garbage(String),
    /// Nothing came in time.
    Late,
    /// The machine fails.
    Machine(io::Error),
    /// It was closed without an answer.
    Silent,
}

impl ClientErrorKind {
    fn of(error: io::Error) -> Self {
        match matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            true => Self::Late,
            false => Self::Machine(error),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = super::table::sanitize(&self.path.display().to_string());
        match &self.what {
            ClientErrorKind::Connect(error) => {
                write!(f, "no process answers at {path}: {}", unreachable(&self.path, error))
            }
            ClientErrorKind::Cut => write!(f, "{path}: the answer broke off in the middle"),
            ClientErrorKind::Endless => {
                let most = LINE_BYTES_MAX >> 20;
                write!(f, "{path}: an answer of more than {most} MiB is not tidegate's")
            }
            ClientErrorKind::Garbage(error) => write!(
                f,
                "{path}: the answer cannot be read ({error}); is another program, or another \
                 version of tidegate, at this socket?"
            ),
            ClientErrorKind::Late => {
                write!(f, "{path}: no answer in time; the process may be stopped or stuck")
            }
            ClientErrorKind::Machine(error) => write!(f, "{path}: {error}"),
            ClientErrorKind::Silent => {
                write!(f, "{path}: the connection was closed without an answer")
            }
        }
    }
}

/// Why nobody is there, and what to do about it.
fn unreachable(path: &Path, error: &io::Error) -> String {
    let socket = std::fs::metadata(path).map(|metadata| metadata.file_type().is_socket());
    match (error.kind(), socket) {
        (ErrorKind::PermissionDenied, _) => {
            "permission denied: only root and the user tidegate runs as may".to_owned()
        }
        (ErrorKind::NotFound, _) => "there is no such socket; is tidegate running, and is this \
             its [control] socket? (--socket names another)"
            .to_owned(),
        (_, Ok(false)) => "this is not a socket".to_owned(),
        (ErrorKind::ConnectionRefused, _) => {
            "the socket is there, but nobody listens: the process that made it is gone".to_owned()
        }
        (ErrorKind::WouldBlock | ErrorKind::TimedOut, _) => {
            "the process does not accept connections; it may be stopped or stuck".to_owned()
        }
        (_, _) => error.to_string(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a reader at a terminal, outside of all sessions")]
fn now() -> Instant {
    Instant::now()
}

/// For a connection, and for an answer that takes no time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nine thousand tunnels are some three megabytes.
const LINE_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A place of this test's own.
    fn place(name: &str) -> (PathBuf, UnixListener) {
        let name = format!("tidegate-client-{}-{name}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    #[test]
    fn a_silent_process_is_waited_for_no_longer_than_agreed() {
        let (path, _listener) = place("silent");
        let client = ControlClient { path: path.clone(), patience: Duration::from_millis(50) };
        // It lies in the backlog, where nobody reads.
        let trouble = client.line(&ControlRequest::Status).unwrap_err();
        assert!(matches!(trouble.what, ClientErrorKind::Late), "{trouble}");
        assert!(trouble.to_string().contains("no answer in time"), "{trouble}");
        // Until the backlog is full.
        let mut waiting = Vec::new();
        let trouble = loop {
            match client.ask(&ControlRequest::Status, None) {
                Ok(reply) if waiting.len() < 10_000 => waiting.push(reply),
                Ok(_) => panic!("the backlog has no end"),
                Err(trouble) => break trouble,
            }
        };
        assert!(trouble.to_string().contains("does not accept connections"), "{trouble}");
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn a_dribbling_process_is_not_waited_for_byte_by_byte() {
        let (path, listener) = place("dribble");
        let (done, stop) = sync_channel::<()>(1);
        let dribble = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stop.recv_timeout(Duration::from_millis(10)).is_err() {
                let _ = stream.write_all(b"x");
            }
        });
        let client = ControlClient { path: path.clone(), patience: Duration::from_millis(100) };
        let trouble = client.line(&ControlRequest::Status).unwrap_err();
        assert!(matches!(trouble.what, ClientErrorKind::Late), "{trouble}");
        done.send(()).unwrap();
        dribble.join().unwrap();
        let _ = std::fs::remove_file(path);
    }
}
