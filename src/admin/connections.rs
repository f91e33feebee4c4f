//! The open connections of the admin listener. Few may be open, and a new one is accepted nevertheless: the oldest
//! without a complete request is closed for it. Clients that send nothing or read slowly then delay no probe.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::ioctl_fionread;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::warn;

use crate::sys::clock::now;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::once_a_minute::OnceAMinute;

/// The open connections, at most [`CONNECTIONS_MAX`].
#[derive(Debug)]
pub struct AdminConnections {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
    drop_logged: OnceAMinute,
    dropped_since_log: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// In the order in which they were accepted.
    open: Vec<PermitHolder>,
    next_id: u64,
}

#[derive(Debug)]
struct PermitHolder {
    id: u64,
    peer: SocketAddr,
    progress: RequestProgress,
    /// Dropped with the holder, which ends the connection.
    _close: oneshot::Sender<Infallible>,
}

/// How much of its request a connection has sent.
#[derive(Debug)]
enum RequestProgress {
    /// Nothing that its task has seen; the kernel may have more.
    Silent(Arc<TcpStream>),
    Partial,
    Complete,
    /// A document is being sent, which takes as long as its reader likes.
    Document,
}

/// The right to hold one connection to the admin listener open. Dropping it releases the count.
#[derive(Debug)]
pub struct AdminPermit {
    id: u64,
    connections: Arc<AdminConnections>,
}

/// Ready once the connection must close, because another has its permit.
pub type PermitRevoked = oneshot::Receiver<Infallible>;

impl AdminConnections {
    /// Creates an instance without connections, which counts those that it closes in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let (table, drop_logged, dropped_since_log) = Default::default();
        Arc::new(Self { table, metrics, drop_logged, dropped_since_log })
    }

    /// Admits the connection, if necessary in place of another. `None` if all others are being answered.
    pub fn admit(
        self: &Arc<Self>,
        io: &Arc<TcpStream>,
        peer: SocketAddr,
    ) -> Option<(AdminPermit, PermitRevoked)> {
        let mut table = self.table();
        if table.open.len() >= CONNECTIONS_MAX {
            let Some(index) = table.next_to_close() else {
                self.report_drop(peer);
                return None;
            };
            let closed = table.open.remove(index);
            self.report_drop(closed.peer);
        }
        let (close, revoked) = oneshot::channel();
        let id = table.next_id;
        table.next_id += 1;
        let progress = RequestProgress::Silent(io.clone());
        table.open.push(PermitHolder { id, peer, progress, _close: close });
        Some((AdminPermit { id, connections: self.clone() }, revoked))
    }

    fn report_drop(&self, peer: SocketAddr) {
        self.metrics.admin_connections_dropped.inc();
        self.dropped_since_log.fetch_add(1, Ordering::Relaxed);
        if self.drop_logged.is_due(now()) {
            warn!(
                dropped = self.dropped_since_log.swap(0, Ordering::Relaxed),
                limit = CONNECTIONS_MAX,
                last_peer = %peer,
                "admin: too many connections; those without a complete request are closed, the oldest first; find \
                 out what connects to the admin listener and sends nothing"
            );
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that could panic runs between related updates.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The connection to close for a new one: the oldest silent one, then the oldest with half a request. The newest
    /// silent ones come last, because their request may be on its way.
    fn next_to_close(&self) -> Option<usize> {
        let silent = self.open.iter().enumerate().filter(|(_, holder)| holder.is_silent());
        let silent: Vec<usize> = silent.map(|(index, _)| index).take(NEW_SILENT + 1).collect();
        let oldest_silent = silent.first().copied();
        if silent.len() > NEW_SILENT {
            return oldest_silent;
        }
        // What the kernel has may be a whole request, so those that were read come first.
        let read = |holder: &PermitHolder| matches!(holder.progress, RequestProgress::Partial);
        let unread = |holder: &PermitHolder| !holder.is_complete() && !holder.is_silent();
        let partial = self.open.iter().position(read);
        partial.or_else(|| self.open.iter().position(unread)).or(oldest_silent)
    }

    fn holder(&mut self, id: u64) -> Option<&mut PermitHolder> {
        self.open.iter_mut().find(|holder| holder.id == id)
    }
}

impl PermitHolder {
    /// Asks the kernel as well, because a busy worker may not have read what arrived.
    fn is_silent(&self) -> bool {
        matches!(&self.progress, RequestProgress::Silent(io) if ioctl_fionread(io).unwrap_or(0) == 0)
    }

    fn is_complete(&self) -> bool {
        matches!(self.progress, RequestProgress::Complete | RequestProgress::Document)
    }
}

impl AdminPermit {
    /// The first byte has arrived. Releases the reference to the socket.
    pub fn request_started(&self) {
        self.set(RequestProgress::Partial);
    }

    /// The request is complete; from now on the connection is not closed for another.
    pub fn request_complete(&self) {
        self.set(RequestProgress::Complete);
    }

    /// Whether the response may be a document. At most [`DOCUMENTS_MAX`] are sent at a time, so that slow readers
    /// leave permits for probes.
    pub fn start_document(&self) -> bool {
        let mut table = self.connections.table();
        let is_document =
            |holder: &&PermitHolder| matches!(holder.progress, RequestProgress::Document);
        if table.open.iter().filter(is_document).count() >= DOCUMENTS_MAX {
            return false;
        }
        if let Some(holder) = table.holder(self.id) {
            holder.progress = RequestProgress::Document;
        }
        true
    }

    fn set(&self, progress: RequestProgress) {
        if let Some(holder) = self.connections.table().holder(self.id) {
            holder.progress = progress;
        }
    }
}

impl Drop for AdminPermit {
    fn drop(&mut self) {
        self.connections.table().open.retain(|holder| holder.id != self.id);
    }
}

/// The reserve of file descriptors includes these (`src/proxy/capacity.rs`).
const CONNECTIONS_MAX: usize = 32;
/// The rest stays for probes.
const DOCUMENTS_MAX: usize = CONNECTIONS_MAX - 8;
/// The number of silent connections that outlive one with half a request.
const NEW_SILENT: usize = 4;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection of the table, with the side of its client.
    struct Opened {
        client: TcpStream,
        io: Arc<TcpStream>,
        permit: AdminPermit,
        revoked: PermitRevoked,
    }

    impl Opened {
        fn is_closed(&mut self) -> bool {
            self.revoked.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        }
    }

    struct Opener(TcpListener, Arc<AdminConnections>);

    impl Opener {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self(listener, AdminConnections::new(Arc::default()))
        }

        async fn try_open(&self) -> Option<Opened> {
            let client = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
            let (io, peer) = self.0.accept().await.unwrap();
            let io = Arc::new(io);
            let (permit, revoked) = self.1.admit(&io, peer)?;
            Some(Opened { client, io, permit, revoked })
        }

        async fn open(&self, count: usize) -> Vec<Opened> {
            let mut opened = Vec::new();
            for _ in 0..count {
                opened.push(self.try_open().await.unwrap());
            }
            opened
        }
    }

    /// The positions of those that were closed.
    fn closed(opened: &mut [Opened]) -> Vec<usize> {
        let closed =
            opened.iter_mut().enumerate().filter_map(|(index, o)| o.is_closed().then_some(index));
        closed.collect()
    }

    #[tokio::test]
    async fn oldest_silent_connections_are_closed_first() {
        let opener = Opener::new().await;
        let mut opened = opener.open(CONNECTIONS_MAX).await;
        opened[0].permit.request_started();
        opened[1].permit.request_complete();
        // Its task has not read this.
        opened[2].client.write_all(b"G").await.unwrap();
        opened[2].io.readable().await.unwrap();
        assert_eq!(closed(&mut opened), [0; 0]);
        opened.extend(opener.open(2).await);
        assert_eq!(closed(&mut opened), [3, 4]);
        assert_eq!(opener.1.metrics.admin_connections_dropped.get(), 2);
        assert_eq!(opener.1.table().open.len(), CONNECTIONS_MAX);
        drop(opened);
        assert_eq!(opener.1.table().open.len(), 0);
    }

    #[tokio::test]
    async fn half_requests_yield_to_the_newest_connections() {
        let opener = Opener::new().await;
        let mut opened = opener.open(CONNECTIONS_MAX).await;
        opened[2..].iter().for_each(|each| each.permit.request_started());
        // Its task has not read this.
        opened[1].client.write_all(b"G").await.unwrap();
        opened[1].io.readable().await.unwrap();
        for _ in 0..NEW_SILENT {
            opened.extend(opener.open(1).await);
        }
        assert_eq!(closed(&mut opened), [2, 3, 4, 5]);
        // More silent ones than that are closed first.
        opened.extend(opener.open(1).await);
        assert_eq!(closed(&mut opened), [0, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn connections_that_are_answered_stay() {
        let opener = Opener::new().await;
        let mut opened = opener.open(CONNECTIONS_MAX).await;
        opened.iter().for_each(|each| each.permit.request_complete());
        let documents = opened.iter().filter(|each| each.permit.start_document()).count();
        assert_eq!(documents, DOCUMENTS_MAX);
        assert!(opener.try_open().await.is_none());
        assert_eq!(closed(&mut opened), [0; 0]);
        opened.truncate(CONNECTIONS_MAX - 1);
        assert!(opener.try_open().await.is_some());
        drop(opened.remove(0));
        assert!(opener.open(1).await[0].permit.start_document());
    }
}
