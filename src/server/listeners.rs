//! The listening sockets of the process and their accept loops. A reload binds new addresses before
//! it closes removed ones.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::critical_task::{TaskExited, abort_and_wait};
use super::successor;
use crate::config::settings::ListenerSettings;
use crate::listener::inherited::{HandoverMessage, InheritedSockets};
use crate::listener::key::{ListenerKey, listener_keys};
use crate::listener::socket::{AcceptEvent, BindError, Listener};
use crate::proxy::serve;
use crate::proxy::state::ProxyState;
use crate::sys::clock::now;

/// All active listeners, and the inherited sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    inherited: InheritedSockets,
    active: HashMap<ListenerKey, ActiveListener>,
    /// The admin listener, to be passed to a successor.
    admin: Option<(SocketAddr, Listener)>,
}

/// A listener with its accept loop.
#[derive(Debug)]
struct ActiveListener {
    task: JoinHandle<()>,
    /// Kept to be passed to a successor.
    listener: Listener,
}

impl ActiveListener {
    /// Stops the accept loop and closes the socket. From then on the kernel refuses new
    /// connections, and the address can be bound again.
    async fn close(self) {
        abort_and_wait(self.task).await;
        drop(self.listener);
    }
}

/// Sockets that are bound but do not accept yet.
#[derive(Debug)]
pub struct BoundListeners(Vec<(ListenerKey, ListenerSettings, Listener)>);

impl Listeners {
    /// Creates an instance without active listeners.
    pub fn new(inherited: InheritedSockets) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// Binds every configured address that has no active listener yet.
    ///
    /// # Errors
    /// An address cannot be bound; the sockets bound by this call are closed.
    pub fn bind(&mut self, wanted: &[ListenerSettings]) -> Result<BoundListeners, BindError> {
        let mut bound = Vec::new();
        for (key, settings) in listener_keys(wanted) {
            if !self.active.contains_key(&key) {
                bound.push((key, settings.clone(), self.bind_or_inherit(key.address)?));
            }
        }
        Ok(BoundListeners(bound))
    }

    /// The inherited socket with this address, or a new one.
    fn bind_or_inherit(&mut self, address: SocketAddr) -> Result<Listener, BindError> {
        Listener::bind_or_inherit(address, &mut self.inherited)
    }

    /// Binds the admin listener.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind_admin(&mut self, address: SocketAddr) -> Result<Listener, BindError> {
        let listener = self.bind_or_inherit(address)?;
        self.admin = Some((address, listener.clone()));
        Ok(listener)
    }

    /// Duplicates all sockets for a successor.
    ///
    /// # Errors
    /// A socket cannot be duplicated.
    pub fn for_successor(&self) -> io::Result<Vec<HandoverMessage>> {
        let mut active: Vec<_> = self.active.iter().collect();
        // The successor matches sockets with the same configured address by their order.
        active.sort_by_key(|(key, _)| (key.address, key.index));
        let active = active.into_iter().map(|(key, active)| (key.address, &active.listener));
        let admin = self.admin.iter().map(|(address, listener)| (*address, listener));
        let own = active.chain(admin).filter(|(_, listener)| !listener.is_shared());
        self.inherited.for_successor(own.map(|(address, listener)| (address, listener.as_fd())))
    }

    /// Whether this process takes over from a predecessor.
    pub fn is_successor(&self) -> bool {
        self.inherited.has_predecessor()
    }

    /// Waits for the predecessor's permission to serve, if there is a predecessor.
    ///
    /// # Errors
    /// The predecessor ended or did not answer in time.
    pub fn take_over(&mut self) -> io::Result<()> {
        let predecessor = self.inherited.take_predecessor();
        let result = predecessor.map_or(Ok(()), |channel| successor::take_over(&channel));
        self.inherited.close_unclaimed();
        result
    }

    /// Logs a warning for each problem with a socket from the service manager, for example if the
    /// configuration does not use it.
    pub fn warn_unused_inherited(&self, wanted: &[ListenerSettings], admin: Option<SocketAddr>) {
        let wanted: Vec<_> = wanted.iter().map(|listener| listener.address).chain(admin).collect();
        for problem in self.inherited.warnings(&wanted) {
            warn!(problem, "problem with a socket from the service manager");
        }
    }

    /// Starts to accept on bound sockets.
    pub fn start_accepting(&mut self, state: &Arc<ProxyState>, bound: BoundListeners) {
        for (key, settings, listener) in bound.0 {
            info!(
                listener = &*settings.name,
                address = %listener.local_addr(),
                tls = settings.tls,
                held_by_service_manager = listener.is_shared(),
                "listening"
            );
            let accepting = accept(state.clone(), listener.clone(), key);
            #[expect(clippy::disallowed_methods, reason = "an accept loop, which a drain aborts")]
            let task = tokio::spawn(accepting);
            self.active.insert(key, ActiveListener { task, listener });
        }
    }

    /// Closes listeners that are no longer configured. Their connections stay open. Afterwards the
    /// address can be bound again, unless the service manager also holds the socket; then clients
    /// keep queueing in it.
    pub async fn retain(&mut self, wanted: &[ListenerSettings]) {
        let kept: Vec<ListenerKey> = listener_keys(wanted).map(|(key, _)| key).collect();
        for (key, active) in self.active.extract_if(|key, _| !kept.contains(key)) {
            active.close().await;
            info!(address = %key.address, "no longer listening");
        }
    }

    /// Closes all listeners. Connections queued in a socket that another process also holds stay
    /// queued for that process.
    pub async fn close(&mut self) {
        for (_, active) in self.active.drain() {
            active.close().await;
        }
        self.inherited.close();
    }

    /// Ready when an accept loop has ended unexpectedly. It is not restarted.
    pub async fn failed_task(&mut self) -> TaskExited {
        let (key, ended) = poll_fn(|cx| {
            for (key, active) in &mut self.active {
                if let Poll::Ready(ended) = Pin::new(&mut active.task).poll(cx) {
                    return Poll::Ready((*key, ended));
                }
            }
            Poll::Pending
        })
        .await;
        TaskExited::of(format_args!("accept loop of {}", key.address), ended)
    }
}

async fn accept(state: Arc<ProxyState>, listener: Listener, key: ListenerKey) {
    let mut reported: Option<Instant> = None;
    let (liveness, net) = (state.liveness.clone(), state.net.clone());
    let each = move |event| match event {
        AcceptEvent::Connection(accepted) => {
            state.tasks.spawn(serve::serve(state.clone(), accepted, key));
        }
        AcceptEvent::Paused(reason, pause) => {
            if let Some(counts) = state.snapshot().listener_counts(key) {
                counts.pauses.inc();
            }
            if reported.is_none_or(|then| now().duration_since(then) > REPORT_INTERVAL) {
                reported = Some(now());
                error!(
                    address = %key.address,
                    error = %reason,
                    pause_ms = pause.as_millis() as u64,
                    connections = state.concurrency.connections(),
                    "accept failed, pausing; open connections are not affected; raise LimitNOFILE if descriptors \
                     have run out"
                );
            }
        }
    };
    let responder = liveness.register(format!("accept loop of {}", key.address));
    select! {
        biased;
        () = responder.answer() => {}
        () = listener.run(|| net.random_f64(), each) => {}
    }
}

/// At most one message per listener in this time, so that a shortage of descriptors does not flood
/// the log.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;

    fn active_listener(task: JoinHandle<()>) -> ActiveListener {
        let any = "127.0.0.1:0".parse().unwrap();
        ActiveListener {
            task,
            listener: Listener::bind_or_inherit(any, &mut InheritedSockets::default()).unwrap(),
        }
    }

    // Requirements: SR15.
    #[tokio::test]
    async fn failed_listener_task_is_reported() {
        let address: SocketAddr = "127.0.0.1:443".parse().unwrap();
        let mut listeners = Listeners::default();
        let lasting = Handle::current().spawn(std::future::pending());
        listeners.active.insert(ListenerKey { address, index: 1 }, active_listener(lasting));
        let pause = Duration::from_millis(20);
        assert!(
            tokio::time::timeout(pause, listeners.failed_task()).await.is_err(),
            "no task has ended"
        );
        let broken = Handle::current().spawn(async { panic!("accept bug") });
        listeners.active.insert(ListenerKey { address, index: 0 }, active_listener(broken));
        let text = listeners.failed_task().await.to_string();
        assert!(text.contains("127.0.0.1:443") && text.contains("accept bug"), "{text}");
    }
}
