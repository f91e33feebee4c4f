//! Where orders are taken: a Unix socket for root and the user that tidegate runs as. Nothing that
//! changes anything can be asked for elsewhere. See [`crate::protocol`] for what is asked.

pub(crate) mod choose;
pub(crate) mod explain;
pub(crate) mod in_force;
pub(crate) mod orders;
pub(crate) mod rows;
pub(crate) mod socket;
pub(crate) mod tail;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use self::socket::ControlListener;
use super::status::watch::StatusCache;
use crate::admin::control::socket::SocketError;
use crate::protocol::answer::{
    CommandError, CommandErrorKind, DrainResult, ReloadResult, Response,
};
use crate::protocol::{ControlRequest, line, read};
use crate::proxy::state::ProxyState;
use crate::server::reload;
use crate::sys::clock::now;

/// A reload that somebody waits for.
pub type ReloadRequest = oneshot::Sender<Result<ReloadResult, Vec<String>>>;

/// What requests act on.
struct ControlService {
    gate: Arc<ProxyState>,
    status: Arc<StatusCache>,
    reloads: mpsc::Sender<ReloadRequest>,
    /// Places for those who wait for something.
    waiting: Semaphore,
}

/// Whom orders are given to.
pub struct ControlServer {
    socket: ControlListener,
    desk: Arc<ControlService>,
}

/// Binds, beside its path: a process that this one is to follow takes orders there until
/// [`ControlServer::open`].
pub fn bind(
    gate: Arc<ProxyState>,
    status: Arc<StatusCache>,
    path: &Path,
    is_successor: bool,
    reloads: mpsc::Sender<ReloadRequest>,
) -> Result<ControlServer, SocketError> {
    let desk = ControlService { gate, status, reloads, waiting: Semaphore::new(WAITING_MAX) };
    Ok(ControlServer { socket: ControlListener::bind(path, is_successor)?, desk: Arc::new(desk) })
}

impl ControlServer {
    /// From now on orders come here; the future answers them until it is dropped, and then takes the
    /// socket away.
    pub fn open(self) -> impl Future<Output = ()> + Send {
        match self.socket.settle() {
            Ok(()) => info!(path = %self.socket.path().display(), "taking orders"),
            // It serves already.
            Err(fault) => error!(%fault, "no orders can be given"),
        }
        self.serve()
    }

    async fn serve(self) {
        let Self { socket, desk } = self;
        let mut open = JoinSet::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut refused: Option<Instant> = None;
        loop {
            let stream = socket.accept().await;
            while open.try_join_next().is_some() {}
            let denied = socket::deny(&stream);
            if let Some(who) = denied
                && refused.is_none_or(|then| now().duration_since(then) > TELL_EVERY)
            {
                refused = Some(now());
                warn!(uid = who, "an order was refused: only root and our own user may give any");
            }
            let place = places.clone().try_acquire_owned().ok();
            let desk = desk.clone();
            if denied.is_some() {
                // Without a look at what is wanted, so that it holds up nobody.
                let mut reply = ResponseWriter(stream.into_split().1);
                let fault = CommandError::new(CommandErrorKind::Denied, DENIED);
                reply.send(&Response::<()>::Fault(fault)).await;
            } else if open.len() < OPEN_MAX {
                open.spawn(async move { desk.converse(stream, place).await });
            }
        }
    }
}

impl ControlService {
    async fn converse(&self, stream: UnixStream, mut place: Option<OwnedSemaphorePermit>) {
        let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
        let (from, to) = stream.into_split();
        let mut reply = ResponseWriter(to);
        // In any case: what is left unread when a socket closes takes the answer with it.
        let asked = timeout(REQUEST_MAX, ask(from)).await;
        let said = match (&place, asked) {
            (None, _) => Err(CommandError::new(CommandErrorKind::Busy, BUSY)),
            (Some(_), Ok(Err(fault))) => Err(fault),
            (Some(_), Ok(Ok(request))) => {
                let order = request.order();
                if let Some(order) = &order {
                    info!(uid, order, "ordered");
                }
                // Those that take long keep no short one out.
                let waits = matches!(
                    request,
                    ControlRequest::Tail { .. }
                        | ControlRequest::Drain { wait: true, .. }
                        | ControlRequest::Reload
                );
                let said = match waits.then(|| self.waiting.try_acquire()).transpose() {
                    Ok(waiting) => {
                        place = place.filter(|_| !waits);
                        let said = self.answer(request, &mut reply).await;
                        drop((place, waiting));
                        said
                    }
                    Err(_) => Err(CommandError::new(CommandErrorKind::Busy, BUSY)),
                };
                if let (Some(order), Err(fault)) = (&order, &said) {
                    info!(order, fault = fault.message, "not done");
                }
                said
            }
            (Some(_), Err(_)) => {
                Err(CommandError::new(CommandErrorKind::BadRequest, "no request came within 2s"))
            }
        };
        if let Err(fault) = said {
            reply.send(&Response::<()>::Fault(fault)).await;
        }
    }

    async fn answer(
        &self,
        request: ControlRequest,
        reply: &mut ResponseWriter,
    ) -> Result<(), CommandError> {
        let gate = &self.gate;
        match request {
            ControlRequest::Status => {
                let cache = self.status.clone();
                let status = self.beside(move |gate| cache.status(&gate)).await?;
                reply.ok(&status).await;
            }
            ControlRequest::Sessions { of } => {
                let lines = choose::choose(gate, &of)?;
                let sessions = self.beside(move |gate| rows::list(&gate, &lines)).await?;
                reply.ok(&sessions).await;
            }
            ControlRequest::Session { session } => {
                let line = choose::one(gate, session)?;
                reply.ok(&rows::detail(&line)).await;
            }
            ControlRequest::Kill { of, all, words } => {
                reply.ok(&orders::kill(gate, &of, all, &words)?).await;
            }
            ControlRequest::Drain { of, all, pace, words, wait } => {
                let (drained, over) = orders::drain(gate, &of, all, pace, &words)?;
                if !wait {
                    reply.ok(&drained).await;
                } else if let Some(over) = reply.unless_gone(over).await {
                    let ended = |_| {
                        CommandError::new(
                            CommandErrorKind::Refused,
                            "the drain was ended by undrain",
                        )
                    };
                    let cut = Some(over.map_err(ended)?.cut);
                    reply.ok(&DrainResult { cut, ..drained }).await;
                }
            }
            ControlRequest::Undrain { place } => {
                orders::undrain(gate, &place)?;
                reply.ok(&place).await;
            }
            ControlRequest::Weight { backend, route, weight } => {
                reply.ok(&orders::weigh(gate, &backend, route.as_deref(), weight)?).await;
            }
            ControlRequest::Tail { session } => tail::tail(gate, session, reply).await?,
            ControlRequest::Explain { url, origin, address } => {
                let asked = explain::HypotheticalRequest::read(
                    &url,
                    origin.as_deref(),
                    address.as_deref(),
                )?;
                reply.ok(&explain::explain(gate, &asked)).await;
            }
            ControlRequest::Reload => drop(reply.ok(&self.reload().await?).await),
            ControlRequest::Diff { path, text } => {
                let preview =
                    move |gate: Arc<ProxyState>| reload::preview(&gate, Path::new(&path), &text);
                let told = self.beside(preview).await?;
                reply
                    .ok(&told.map_err(|faults| refused("a reload would be refused", faults))?)
                    .await;
            }
            ControlRequest::Config => {
                reply.ok(&in_force::config(gate)).await;
            }
            ControlRequest::LogLevel { level } => {
                reply.ok(&in_force::log_level(level.as_deref())?).await;
            }
        }
        Ok(())
    }

    async fn reload(&self) -> Result<ReloadResult, CommandError> {
        let (ask, told) = oneshot::channel();
        let leaving = || CommandError::new(CommandErrorKind::Refused, "the process is leaving");
        self.reloads.send(ask).await.map_err(|_| leaving())?;
        let faults = match told.await {
            Ok(Ok(reloaded)) => return Ok(reloaded),
            Ok(Err(faults)) => faults,
            Err(_) => return Err(leaving()),
        };
        Err(refused("refused; the configuration in force stays as it was", faults))
    }

    /// Makes what takes its time beside the workers, who have tunnels to serve.
    async fn beside<T: Send + 'static>(
        &self,
        make: impl FnOnce(Arc<ProxyState>) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let gate = self.gate.clone();
        let made = tokio::task::spawn_blocking(move || make(gate)).await;
        made.map_err(|_| CommandError::new(CommandErrorKind::Refused, BROKEN))
    }
}

fn refused(message: &str, faults: Vec<String>) -> CommandError {
    CommandError { faults, ..CommandError::new(CommandErrorKind::Refused, message) }
}

/// One line, whole, and in time.
async fn ask(from: OwnedReadHalf) -> Result<ControlRequest, CommandError> {
    let bad = |words: String| CommandError::new(CommandErrorKind::BadRequest, words);
    let mut said = Vec::new();
    let read_line = BufReader::new(from.take(REQUEST_BYTES_MAX)).read_until(b'\n', &mut said).await;
    read_line.map_err(|error| bad(format!("the request did not come: {error}")))?;
    if said.len() as u64 == REQUEST_BYTES_MAX {
        return Err(bad(format!("the request is longer than {REQUEST_BYTES_MAX} bytes")));
    }
    read(&said).map_err(|error| bad(format!("the request cannot be read: {error}")))
}

/// Where answers go.
struct ResponseWriter(OwnedWriteHalf);

impl ResponseWriter {
    async fn ok(&mut self, value: &impl Serialize) -> bool {
        self.send(&Response::Ok(value)).await
    }

    /// False once nobody reads any more, or too slowly.
    async fn send(&mut self, answer: &Response<impl Serialize>) -> bool {
        timeout(WRITE_MAX, self.0.write_all(&line(answer))).await.is_ok_and(|sent| sent.is_ok())
    }

    /// What is waited for, unless whoever asked leaves before. It says nothing more after its
    /// request, but need not close its side.
    async fn unless_gone<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let gone = async {
            loop {
                tokio::time::sleep(GONE_EVERY).await;
                let ready = self.0.ready(tokio::io::Interest::WRITABLE).await;
                if ready.is_ok_and(|ready| ready.is_write_closed()) {
                    return;
                }
            }
        };
        tokio::select! {
            told = wait => Some(told),
            () = gone => None,
        }
    }
}

const DENIED: &str = "only root and the user that tidegate runs as may give orders";
const BUSY: &str = "too many orders are under way; try again";
const BROKEN: &str = "this failed; the journal says why";

const CONNECTIONS_MAX: usize = 16;
const WAITING_MAX: usize = 32;
/// Even to say no takes a moment.
const OPEN_MAX: usize = WAITING_MAX + 2 * CONNECTIONS_MAX;
const REQUEST_BYTES_MAX: u64 = 1 << 20;
const REQUEST_MAX: Duration = Duration::from_secs(2);
const WRITE_MAX: Duration = Duration::from_secs(10);
const GONE_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(10);
