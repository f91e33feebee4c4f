//! Connections to one backend that wait for the next request (RFC 9112 9.3).
//!
//! The last one used is taken first, so that the others can expire. One task for each backend notices the
//! connections that the backend closes and closes those that expire; it ends with the last of them.

use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::connection::HttpConnection;
use crate::http::head_limits::HeadLimits;
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
}

#[derive(Debug)]
struct IdleConnection {
    http: HttpConnection,
    address: SocketAddr,
    idle_since: Instant,
    expires: Instant,
    _place: OccupiedPlace,
}

/// The properties that an idle connection must have to be taken for a request.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
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

    /// Takes the connection to `address` that was used last, if one is still open.
    pub fn take(&self, address: SocketAddr, wanted: Wanted) -> Option<HttpConnection> {
        let now = Instant::now();
        loop {
            let mut list = self.lock();
            let is_wanted = |idle: &IdleConnection| {
                idle.address == address
                    && idle.http.limits == wanted.limits
                    && idle.expires > now
                    && now.duration_since(idle.idle_since) <= wanted.max_idle
                    && (!wanted.is_proven || idle.is_proven(now))
            };
            let index = list.connections.iter().rposition(is_wanted)?;
            let mut idle = list.connections.remove(index);
            drop(list);
            // The backend may have closed it, or sent what no request asked for.
            if idle.is_open(&mut Context::from_waker(Waker::noop())) {
                return Some(idle.http);
            }
        }
    }

    /// Keeps a connection for at most `max_idle`, unless there are too many.
    #[expect(clippy::disallowed_methods, reason = "a drain does not wait for idle connections")]
    pub fn put(self: &Arc<Self>, http: HttpConnection, address: SocketAddr, max_idle: Duration) {
        let mut list = self.lock();
        let Some(place) = self.places.reserve() else { return };
        let idle_since = Instant::now();
        let expires = idle_since + max_idle;
        list.connections.push(IdleConnection { http, address, idle_since, expires, _place: place });
        if !mem::replace(&mut list.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes all of them.
    pub fn clear(&self) {
        self.lock().connections.clear();
    }

    /// Waits briefly for the backend to close a connection that carries no more requests. TIME_WAIT then is
    /// at the backend, and does not occupy a local port for a minute.
    #[expect(clippy::disallowed_methods, reason = "a drain does not wait for ended connections")]
    pub fn close_after_backend(&self, mut socket: Socket) {
        if let Some(place) = self.places.reserve() {
            tokio::spawn(async move {
                let _ = timeout(CLOSE_TIMEOUT, socket.read(&mut [0; 1])).await;
                drop(place);
            });
        }
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
    /// How many there are.
    pub max: usize,
}

/// An occupied place.
#[derive(Debug)]
struct OccupiedPlace(Arc<Counter>);

impl IdlePlaces {
    fn reserve(&self) -> Option<OccupiedPlace> {
        // Threads that ask at the same time may exceed the maximum by a few.
        (self.occupied.get() < self.max as u64).then(|| {
            self.occupied.inc();
            OccupiedPlace(self.occupied.clone())
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
/// How often expired connections are closed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the backend has to close a connection after its last response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
