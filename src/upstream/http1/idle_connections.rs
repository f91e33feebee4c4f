//! Connections to one backend that wait for the next request (RFC 9112 9.3).
//!
//! The last one used is taken first, so that the others can expire. One task for each backend notices the
//! connections that the backend closes and closes those that expire; it ends with the last of them.

use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::connection::HttpConnection;
use crate::client::ClientAddr;
use crate::http::head_limits::HeadLimits;
use crate::net::Transport as _;
use crate::net::network::TargetAddr;
use crate::net::socket::Socket;
use crate::telemetry::metrics::counters::Counter;

/// The idle connections to one backend.
#[derive(Debug, Default)]
pub struct IdleConnections {
    places: IdlePlaces,
    list: Mutex<IdleList>,
}

#[derive(Debug, Default)]
struct IdleList {
    /// The one used last at the end.
    connections: Vec<IdleConnection>,
    /// Whether the task that closes them runs.
    is_watched: bool,
    /// When they were last closed for a request that waits.
    given_up: Option<Instant>,
}

#[derive(Debug)]
struct IdleConnection {
    http: HttpConnection,
    address: TargetAddr,
    idle_since: Instant,
    expires: Instant,
    place: OccupiedPlace,
}

/// The properties that an idle connection must have to be taken for a request.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The client of the request.
    pub client: ClientAddr,
    /// The limits of response heads, which hyper sets for a whole connection.
    pub limits: HeadLimits,
    /// How long it may have been idle.
    pub max_idle: Duration,
    /// Whether the backend must have been seen to keep it open after a response: some close it without
    /// announcing that.
    pub is_proven: bool,
}

impl IdleConnections {
    /// Creates an empty list.
    pub fn new(places: IdlePlaces) -> Self {
        Self { places, list: Mutex::default() }
    }

    /// Takes the connection to `address` that was used last, if one is still open. Those that are reserved for
    /// the client come first, because others cannot use them.
    pub fn take(&self, address: &TargetAddr, wanted: Wanted) -> Option<HttpConnection> {
        let now = Instant::now();
        loop {
            let mut list = self.lock();
            let is_wanted = |idle: &IdleConnection| {
                idle.address == *address
                    && idle.http.client.is_none_or(|client| client == wanted.client)
                    && idle.http.limits == wanted.limits
                    && idle.expires > now
                    && now.duration_since(idle.idle_since) <= wanted.max_idle
                    && (!wanted.is_proven || idle.is_proven(now))
            };
            let found = list.connections.iter().enumerate().filter(|(_, idle)| is_wanted(idle));
            let (index, _) =
                found.max_by_key(|(index, idle)| (idle.http.client.is_some(), *index))?;
            let mut idle = list.connections.remove(index);
            drop(list);
            // The backend may have closed it, or sent what no request asked for. This also replaces the waker of the
            // watching task, which the request would wake.
            if idle.is_open(&mut Context::from_waker(Waker::noop())) {
                return Some(idle.http);
            }
        }
    }

    /// Keeps a connection for at most `max_idle`. If there are too many, one for all clients displaces a reserved
    /// one. What is not kept is reset, because TIME_WAIT would occupy a local port for a minute.
    #[expect(clippy::disallowed_methods, reason = "a drain does not wait for idle connections")]
    pub fn put(self: &Arc<Self>, http: HttpConnection, address: TargetAddr, max_idle: Duration) {
        let mut list = self.lock();
        let is_full = list.connections.len() >= self.places.max / 2;
        let free = self.places.reserve_idle().filter(|_| !is_full);
        let place = free.or_else(|| http.client.is_none().then(|| list.displace_reserved())?);
        let Some(place) = place else {
            http.reset();
            return;
        };
        let idle_since = Instant::now();
        let expires = idle_since + max_idle;
        list.connections.push(IdleConnection { http, address, idle_since, expires, place });
        if !mem::replace(&mut list.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes all of them.
    pub fn clear(&self) {
        self.lock().connections.clear();
    }

    /// Waits for a response on a new connection. As long as it does not come, idle connections are closed from
    /// time to time: an application with a thread for each connection may have all its threads wait on them.
    pub async fn give_up_while<T>(&self, responding: impl Future<Output = T>) -> T {
        self.clear_each(RESPONSE_WAIT, responding).await
    }

    /// Waits for a new connection, as for a response: the queue of the application may be full.
    pub async fn give_up_while_connecting<T>(&self, connecting: impl Future<Output = T>) -> T {
        self.clear_each(CONNECT_WAIT, connecting).await
    }

    async fn clear_each<T>(&self, interval: Duration, waiting: impl Future<Output = T>) -> T {
        let mut waiting = pin!(waiting);
        loop {
            match timeout(interval, waiting.as_mut()).await {
                Ok(done) => return done,
                Err(_elapsed) => self.give_up(),
            }
        }
    }

    /// Closes all of them for a request that waits. Each leaves TIME_WAIT, which occupies a local port for a minute, so
    /// this happens only from time to time, however many requests wait.
    fn give_up(&self) {
        let now = Instant::now();
        let mut list = self.lock();
        if list.given_up.is_none_or(|last| now.duration_since(last) >= RESPONSE_WAIT) {
            list.given_up = Some(now);
            list.connections.clear();
        }
    }

    /// Waits briefly for the backend to close a connection that carries no more requests. TIME_WAIT then is
    /// at the backend, and does not occupy a local port for a minute. Otherwise the connection is reset.
    #[expect(clippy::disallowed_methods, reason = "a drain does not wait for ended connections")]
    pub fn close_after_backend(&self, mut socket: Socket) {
        let Some(place) = self.places.reserve_closing() else {
            socket.reset_on_drop();
            return;
        };
        tokio::spawn(async move {
            if timeout(CLOSE_TIMEOUT, socket.read(&mut [0; 1])).await.is_err() {
                socket.reset_on_drop();
            }
            drop((socket, place));
        });
    }

    /// Closes the connections that expired or that the backend has closed, and registers `cx` with the
    /// others. Ready if none is left.
    fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let mut list = self.lock();
        list.connections.retain_mut(|idle| idle.expires > now && idle.is_open(cx));
        list.is_watched = !list.connections.is_empty();
        if list.is_watched { Poll::Pending } else { Poll::Ready(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, IdleList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleList {
    /// Resets the reserved connection that has been idle longest. Returns its place.
    fn displace_reserved(&mut self) -> Option<OccupiedPlace> {
        let index = self.connections.iter().position(|idle| idle.http.client.is_some())?;
        let IdleConnection { http, place, .. } = self.connections.remove(index);
        http.reset();
        Some(place)
    }
}

impl IdleConnection {
    fn is_proven(&self, now: Instant) -> bool {
        self.http.responses > 1 || now.duration_since(self.idle_since) >= PROVEN_AFTER
    }

    fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        self.http.connection.poll_without_shutdown(cx).is_pending() && self.http.sender.is_ready()
    }
}

/// Closes idle connections until there are none or the backend was removed.
async fn watch(idle: Weak<IdleConnections>) {
    loop {
        let mut next = pin!(sleep(WATCH_INTERVAL));
        // A connection that the backend closes wakes the task, if it was idle at the last interval.
        let ended = std::future::poll_fn(|cx| {
            let Some(idle) = idle.upgrade() else { return Poll::Ready(true) };
            match idle.poll_empty(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => next.as_mut().poll(cx).map(|()| false),
            }
        });
        if ended.await {
            return;
        }
    }
}

/// The places for idle connections to all backends: each connection occupies a file descriptor.
#[derive(Clone, Debug, Default)]
pub struct IdlePlaces {
    /// Gauge: the occupied ones.
    pub occupied: Arc<Counter>,
    /// Gauge: connections that wait for the backend to close them.
    pub closing: Arc<Counter>,
    /// How many of each there may be. One backend may have half of the idle ones.
    pub max: usize,
}

/// An occupied place.
#[derive(Debug)]
struct OccupiedPlace(Arc<Counter>);

impl IdlePlaces {
    fn reserve_idle(&self) -> Option<OccupiedPlace> {
        OccupiedPlace::reserve(&self.occupied, self.max)
    }

    fn reserve_closing(&self) -> Option<OccupiedPlace> {
        OccupiedPlace::reserve(&self.closing, self.max)
    }
}

impl OccupiedPlace {
    fn reserve(occupied: &Arc<Counter>, max: usize) -> Option<Self> {
        // Threads that ask at the same time may exceed the maximum by a few.
        (occupied.get() < max as u64).then(|| {
            occupied.inc();
            Self(occupied.clone())
        })
    }
}

impl Drop for OccupiedPlace {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// When a backend that closes connections unannounced would have done so.
const PROVEN_AFTER: Duration = Duration::from_millis(20);
/// How long a request waits for its response on a new connection before the idle ones are closed, which is not
/// repeated sooner either: a backend may have 64, so that at most 7,680 ports are occupied.
const RESPONSE_WAIT: Duration = Duration::from_millis(500);
/// How long a connection attempt may take; more than a round trip.
const CONNECT_WAIT: Duration = Duration::from_millis(100);
/// How often expired connections are closed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the backend has to close a connection after its last response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::upstream::scripted::connected;

    #[tokio::test]
    async fn idle_connections_are_given_up_twice_a_second() {
        let list = Arc::new(IdleConnections::new(IdlePlaces { max: 2, ..IdlePlaces::default() }));
        let (mut connections, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let ((socket, to), peer) = connected().await;
            let http = HttpConnection::new(socket, HeadLimits::default()).await.unwrap();
            connections.push((http, to.address));
            peers.push(peer);
        }
        tokio::time::pause();
        let mut closed = 0;
        // A request gives up every 50 ms, for 5 s.
        for _ in 0..100 {
            if list.lock().connections.is_empty() {
                let (http, address) = connections.pop().unwrap();
                list.put(http, address, Duration::from_secs(60));
            }
            list.give_up();
            closed += usize::from(list.lock().connections.is_empty());
            advance(Duration::from_millis(50)).await;
        }
        assert_eq!(closed, 10);
    }

    // Requirements: H42.
    #[tokio::test]
    async fn connection_for_all_displaces_a_reserved_one() {
        // Half of the places are for one backend.
        let list = IdleConnections::new(IdlePlaces { max: 2, ..IdlePlaces::default() });
        let list = Arc::new(list);
        let [one, two] = [1, 2].map(|n| Some(ClientAddr::without_port([203, 0, 113, n].into())));
        let mut peers = Vec::new();
        for (put, kept) in [(one, one), (two, one), (None, None), (one, None), (None, None)] {
            let ((socket, to), peer) = connected().await;
            peers.push(peer);
            let mut http = HttpConnection::new(socket, HeadLimits::default()).await.unwrap();
            http.client = put;
            list.put(http, to.address, Duration::from_secs(60));
            let clients = list.lock().connections.iter().map(|idle| idle.http.client).collect();
            assert_eq!((clients, list.places.occupied.get()), (vec![kept], 1));
        }
    }
}
