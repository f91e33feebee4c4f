//! Accepts connections on the control socket and reads one request from each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::response_writer::ResponseWriter;
use super::service::{ControlService, ReloadRequest};
use super::socket::{self, ControlListener, SocketError};
use crate::admin::status::cache::StatusCache;
use crate::config::settings::ControlSocket;
use crate::control_protocol::response::{CommandError, CommandErrorKind};
use crate::control_protocol::{ControlRequest, decode};
use crate::proxy::state::ProxyState;
use crate::sys::clock::now;

/// A bound control socket that does not answer yet.
pub struct ControlServer {
    socket: ControlListener,
    service: Arc<ControlService>,
    /// Limits requests that are being read or executed.
    requests: Arc<Semaphore>,
    /// Limits commands that wait for something: `tail`, a drain with `wait`, a reload.
    waiting: Arc<Semaphore>,
}

/// Binds the control socket next to its path. A predecessor keeps answering at the path itself
/// until [`ControlServer::open`]. `None` if there is no control socket.
///
/// # Errors
///
/// [`SocketError`] if the path is occupied by another file or by a process that answers there and is not the
/// predecessor, or if the socket cannot be created.
pub fn bind(
    state: Arc<ProxyState>,
    status: Arc<StatusCache>,
    settings: &ControlSocket,
    is_successor: bool,
    reloads: mpsc::Sender<ReloadRequest>,
) -> Result<Option<ControlServer>, SocketError> {
    let socket = socket::bind(settings, is_successor)?;
    Ok(socket.map(|socket| ControlServer {
        socket,
        service: Arc::new(ControlService { state, status, reloads }),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
    }))
}

impl ControlServer {
    /// Moves the socket to its path. The returned future answers requests until it is dropped,
    /// which also removes the socket.
    pub fn open(self) -> impl Future<Output = ()> + Send {
        match self.socket.publish() {
            Ok(()) => info!(path = %self.socket.path().display(), "control socket listening"),
            // The proxy already serves clients, so this is no reason to exit.
            Err(error) => {
                error!(%error, "cannot create the control socket; tidegate ctl will not work until a restart")
            }
        }
        self.serve()
    }

    async fn serve(self) {
        let Self { socket, service, requests, waiting } = self;
        let mut open = JoinSet::new();
        let mut last_warning: Option<Instant> = None;
        loop {
            let stream = socket.accept().await;
            while open.try_join_next().is_some() {}
            let denied = socket::denied_uid(&stream);
            if let Some(uid) = denied
                && last_warning.is_none_or(|then| now().duration_since(then) > WARNING_INTERVAL)
            {
                last_warning = Some(now());
                warn!(uid, "control: connection denied; only root and tidegate's user are allowed");
            }
            if denied.is_some() {
                // Answered without reading the request, so that it cannot occupy a task.
                let mut reply = ResponseWriter::new(stream.into_split().1);
                reply.error(CommandError::new(CommandErrorKind::Denied, DENIED)).await;
            } else if open.len() < CONNECTIONS_MAX {
                let permit = requests.clone().try_acquire_owned().ok();
                let (service, waiting) = (service.clone(), waiting.clone());
                open.spawn(async move { serve_one(&service, stream, permit, &waiting).await });
            }
        }
    }
}

async fn serve_one(
    service: &ControlService,
    stream: UnixStream,
    permit: Option<OwnedSemaphorePermit>,
    waiting: &Semaphore,
) {
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    let (reader, writer) = stream.into_split();
    let mut reply = ResponseWriter::new(writer);
    // Read even if busy: closing a socket with unread data discards the response.
    let request = timeout(REQUEST_TIMEOUT, read_request(reader)).await;
    let outcome = match (permit, request) {
        (None, _) => Err(CommandError::new(CommandErrorKind::Busy, BUSY)),
        (Some(permit), Ok(Ok(request))) => {
            execute(service, uid, request, &mut reply, permit, waiting).await
        }
        (Some(_), Ok(Err(error))) => Err(error),
        (Some(_), Err(_)) => {
            Err(CommandError::new(CommandErrorKind::BadRequest, "no request arrived within 2s"))
        }
    };
    if let Err(error) = outcome {
        reply.error(error).await;
    }
}

/// Executes a request and logs it if it changes anything. Commands that wait give their request
/// permit back, so that they do not block short commands.
async fn execute(
    service: &ControlService,
    uid: Option<u32>,
    request: ControlRequest,
    reply: &mut ResponseWriter,
    permit: OwnedSemaphorePermit,
    waiting: &Semaphore,
) -> Result<(), CommandError> {
    let change = request.change();
    if let Some(command) = &change {
        info!(uid, command, "control: command received");
    }
    let waits = matches!(
        request,
        ControlRequest::Tail { .. }
            | ControlRequest::Drain { wait: true, .. }
            | ControlRequest::Reload
    );
    let outcome = match waits.then(|| waiting.try_acquire()).transpose() {
        Ok(_waiting) => {
            let _permit = Some(permit).filter(|_| !waits);
            service.execute(request, reply).await
        }
        Err(_) => Err(CommandError::new(CommandErrorKind::Busy, BUSY)),
    };
    if let (Some(command), Err(error)) = (&change, &outcome) {
        info!(uid, command, error = error.message, "control: command failed");
    }
    outcome
}

async fn read_request(reader: OwnedReadHalf) -> Result<ControlRequest, CommandError> {
    let bad = |message: String| CommandError::new(CommandErrorKind::BadRequest, message);
    let mut line = Vec::new();
    let read = BufReader::new(reader.take(REQUEST_BYTES_MAX)).read_until(b'\n', &mut line).await;
    read.map_err(|error| bad(format!("reading the request failed: {error}")))?;
    if line.len() as u64 == REQUEST_BYTES_MAX {
        return Err(bad(format!("the request is longer than {REQUEST_BYTES_MAX} bytes")));
    }
    decode(&line).map_err(|error| {
        bad(format!("invalid request ({error}); is the command of another version of tidegate?"))
    })
}

const DENIED: &str = "only root and the user that tidegate runs as may use the control socket";
const BUSY: &str = "too many commands are running; try again later";

const REQUESTS_MAX: usize = 16;
const WAITING_MAX: usize = 32;
/// Connections above the request limit, which only receive an error.
const REJECTED_MAX: usize = 16;
const CONNECTIONS_MAX: usize = WAITING_MAX + REQUESTS_MAX + REJECTED_MAX;
const REQUEST_BYTES_MAX: u64 = 1 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
