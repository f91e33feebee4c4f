//! The listening sockets of the process and the tasks that accept on them. A reload binds what is
//! new before it lets go of what was removed.

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

use super::critical_task::{TaskExited, end};
use super::successor;
use crate::config::settings::ListenerSettings;
use crate::listener::inherited::{InheritedSockets, PassedSocket};
use crate::listener::key::{ListenerKey, listener_keys};
use crate::listener::socket::{AcceptEvent, BindError, Listener};
use crate::proxy::serve;
use crate::proxy::state::ProxyState;
use crate::sys::clock::now;

/// All open doors, and the sockets that somebody else opened for us.
#[derive(Debug, Default)]
pub struct Listeners {
    inherited: InheritedSockets,
    open: HashMap<ListenerKey, ActiveListener>,
    /// The admin listener, for a successor.
    admin: Option<(SocketAddr, Listener)>,
}

/// One that is open.
#[derive(Debug)]
struct ActiveListener {
    task: JoinHandle<()>,
    /// For a successor.
    listener: Listener,
}

impl ActiveListener {
    /// Ends the accept loop. The socket closes with it, and only then will the kernel refuse
    /// whoever comes, and let the address be bound anew.
    async fn shut(self) {
        end(self.task).await;
        drop(self.listener);
    }
}

/// Sockets that are bound, but do not accept yet.
#[derive(Debug)]
pub struct BoundListeners(Vec<(ListenerKey, ListenerSettings, Listener)>);

impl Listeners {
    /// None is open yet.
    pub fn new(inherited: InheritedSockets) -> Self {
        Self { inherited, ..Self::default() }
    }

    /// Binds every wanted address that is not open yet; if one fails, none is kept.
    pub fn bind(&mut self, wanted: &[ListenerSettings]) -> Result<BoundListeners, BindError> {
        let mut bound = Vec::new();
        for (key, settings) in listener_keys(wanted) {
            if !self.open.contains_key(&key) {
                bound.push((key, settings.clone(), self.listener(key.address)?));
            }
        }
        Ok(BoundListeners(bound))
    }

    /// The inherited socket with this address, or a new one.
    fn listener(&mut self, address: SocketAddr) -> Result<Listener, BindError> {
        Listener::open(address, &mut self.inherited)
    }

    /// The same, for the admin listener.
    pub fn admin(&mut self, address: SocketAddr) -> Result<Listener, BindError> {
        let listener = self.listener(address)?;
        self.admin = Some((address, listener.clone()));
        Ok(listener)
    }

    /// All sockets, for a successor.
    pub fn heirs(&self) -> io::Result<Vec<PassedSocket>> {
        let mut open: Vec<_> = self.open.iter().collect();
        // Sockets with the same address are matched by their order.
        open.sort_by_key(|(key, _)| (key.address, key.index));
        let open = open.into_iter().map(|(key, door)| (key.address, &door.listener));
        let admin = self.admin.iter().map(|(address, listener)| (*address, listener));
        let own = open.chain(admin).filter(|(_, listener)| !listener.is_inherited());
        self.inherited.for_successor(own.map(|(address, listener)| (address, listener.as_fd())))
    }

    /// Whether this process follows another one.
    pub fn is_successor(&self) -> bool {
        self.inherited.has_predecessor()
    }

    /// Waits until the process that this one follows, if any, says that it may serve.
    pub fn follow(&mut self) -> io::Result<()> {
        let followed =
            self.inherited.take_predecessor().map_or(Ok(()), |elder| successor::take_over(&elder));
        self.inherited.close_unclaimed();
        followed
    }

    /// Tells of inherited sockets that are not served as they should be.
    pub fn doubt(&self, wanted: &[ListenerSettings], admin: Option<SocketAddr>) {
        let wanted: Vec<_> = wanted.iter().map(|listener| listener.address).chain(admin).collect();
        for socket in self.inherited.warnings(&wanted) {
            warn!(socket, "an inherited socket");
        }
    }

    /// Begins to accept on what was bound.
    pub fn open(&mut self, gate: &Arc<ProxyState>, bound: BoundListeners) {
        for (key, settings, listener) in bound.0 {
            let (address, inherited) = (listener.local_addr(), listener.is_inherited());
            info!(listener = &*settings.name, %address, tls = settings.tls, inherited, "listening");
            let accepting = accept(gate.clone(), listener.clone(), key);
            #[expect(clippy::disallowed_methods, reason = "not a connection: a drain aborts it")]
            let task = tokio::spawn(accepting);
            self.open.insert(key, ActiveListener { task, listener });
        }
    }

    /// Closes what is wanted no more. Connections that came in by a closed door live on; its
    /// address is free, unless the socket was inherited: then clients queue in it.
    pub async fn keep(&mut self, wanted: &[ListenerSettings]) {
        let kept: Vec<ListenerKey> = listener_keys(wanted).map(|(key, _)| key).collect();
        for (key, door) in self.open.extract_if(|key, _| !kept.contains(key)) {
            door.shut().await;
            info!(address = %key.address, "no longer listening");
        }
    }

    /// Closes every door. What waits in an inherited socket is left to whoever holds it too.
    pub async fn close(&mut self) {
        for (_, door) in self.open.drain() {
            door.shut().await;
        }
        self.inherited.close();
    }

    /// Ready when a door has fallen shut by itself. Nobody opens it again.
    pub async fn fallen(&mut self) -> TaskExited {
        let (key, ended) = poll_fn(|cx| {
            for (key, door) in &mut self.open {
                if let Poll::Ready(ended) = Pin::new(&mut door.task).poll(cx) {
                    return Poll::Ready((*key, ended));
                }
            }
            Poll::Pending
        })
        .await;
        TaskExited::of(format_args!("the accept loop of {}", key.address), ended)
    }
}

async fn accept(gate: Arc<ProxyState>, listener: Listener, key: ListenerKey) {
    let mut told: Option<Instant> = None;
    let (liveness, net) = (gate.liveness.clone(), gate.net.clone());
    let each = move |event| match event {
        AcceptEvent::Connection(accepted) => {
            gate.tasks.spawn(serve::serve(gate.clone(), accepted, key));
        }
        AcceptEvent::Paused(reason, pause) => {
            if let Some(counts) = gate.snapshot().listener_counts(key) {
                counts.pauses.inc();
            }
            if told.is_none_or(|then| now().duration_since(then) > TELL_EVERY) {
                told = Some(now());
                let open = gate.concurrency.connections();
                error!(
                    address = %key.address,
                    error = %reason,
                    pause_ms = pause.as_millis() as u64,
                    connections = open,
                    "accepting pauses; open connections go on (raise LimitNOFILE?)"
                );
            }
        }
    };
    let here = liveness.register(format!("the accept loop of {}", key.address));
    select! {
        biased;
        () = here.answer() => {}
        () = listener.run(|| net.random_f64(), each) => {}
    }
}

/// A machine that is out of descriptors does not need a full log as well.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;

    fn door(task: JoinHandle<()>) -> ActiveListener {
        let any = "127.0.0.1:0".parse().unwrap();
        ActiveListener {
            task,
            listener: Listener::open(any, &mut InheritedSockets::default()).unwrap(),
        }
    }

    // Requirements: SR15.
    #[tokio::test]
    async fn failed_listener_task_is_reported() {
        let address: SocketAddr = "127.0.0.1:443".parse().unwrap();
        let mut doors = Listeners::default();
        let lasting = Handle::current().spawn(std::future::pending());
        doors.open.insert(ListenerKey { address, index: 1 }, door(lasting));
        let pause = Duration::from_millis(20);
        assert!(tokio::time::timeout(pause, doors.fallen()).await.is_err(), "all is well");
        let broken = Handle::current().spawn(async { panic!("no more") });
        doors.open.insert(ListenerKey { address, index: 0 }, door(broken));
        let told = doors.fallen().await.to_string();
        assert!(told.contains("127.0.0.1:443") && told.contains("no more"), "{told}");
    }
}
