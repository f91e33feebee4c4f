//! Connections that carry no tunnel yet, and which of them is closed when a new one finds no place.
//!
//! A connection that has asked for nothing is closed first: one of the client that has the most of them, its
//! oldest; if that is young, the oldest of all. Connections that wait for their next request come after those, and
//! a connection whose request is being answered is never closed.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | silent | its first request is complete | busy |
//! | busy | its response has been written | idle |
//! | idle | its next request is complete | busy |
//! | silent, idle | a new connection needs its place, or others need its memory | shed |
//!
//! For memory, connections that wait for their next request are closed first, since their clients have got what they
//! asked for: the oldest one of the client that has the most of them. A client with very many silent ones comes first.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use hyper::http::request::Parts;

use super::client_entries::ClientEntries;
use super::pending_memory::{MemoryCharge, PendingMemory, WAITING_BYTES, request_bytes};
use super::request_memory::{RequestCharge, RequestMemory};
use crate::client::{ClientKey, HttpProtocol};
use crate::reject::RejectReason;
use crate::reject::drop_reason::ShedCause;
use crate::sys::clock::now;

/// The connections of the process that may be closed for a new one.
#[derive(Debug, Default)]
pub struct PendingConnections {
    table: Mutex<PendingTable>,
    memory: Arc<PendingMemory>,
    requests: Arc<RequestMemory>,
}

#[derive(Debug, Default)]
struct PendingTable {
    silent: ClientEntries<PendingEntry>,
    idle: ClientEntries<PendingEntry>,
    next_number: u64,
    /// Connections that were shed and still hold their places.
    ending: usize,
}

#[derive(Debug)]
struct PendingEntry {
    since: Instant,
    connection: Weak<PendingConnection>,
}

/// A connection until it ends or becomes a tunnel. Dropping it removes it from the table.
#[derive(Debug)]
pub struct PendingConnection {
    /// Absent for a connection that is never shed.
    table: Option<(Arc<PendingConnections>, ClientKey)>,
    /// Changes only while the table is locked.
    state: Mutex<PendingState>,
    /// Whether the first response is ready; after that the connection needs no turn.
    is_opened: AtomicBool,
    waker: AtomicWaker,
    /// Absent for a connection that is never shed. The requests on it count.
    memory: Option<MemoryCharge>,
    /// The memory of a request head of which a part was received.
    partial_head: Mutex<Option<RequestCharge>>,
}

/// The state of a connection, with the number of its entry if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingState {
    Silent(u64),
    Busy,
    Idle(u64),
    Shed(ShedCause),
}

impl PendingConnections {
    /// Adds a connection of this client, from which nothing has been read.
    pub fn add(self: &Arc<Self>, client: ClientKey) -> Arc<PendingConnection> {
        let mut table = self.lock();
        let number = table.number();
        let state = PendingState::Silent(number);
        let charge = MemoryCharge::new(self.memory.clone(), WAITING_BYTES);
        let added = PendingConnection::new(Some((self.clone(), client)), state, Some(charge));
        table.silent.push(client, number, PendingEntry::new(&added));
        drop(table);
        // It may be the one that is shed.
        self.make_memory();
        added
    }

    /// Sets the budget for the memory of all connections, in bytes.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.memory.set_limit(bytes);
    }

    /// The memory of all connections, and its budget, in bytes.
    pub fn memory_used_and_limit(&self) -> [u64; 2] {
        [self.memory.used(), self.memory.limit()]
    }

    /// Counts the memory of a request of this client, with this head, until the charge is dropped. `protocol` is that of
    /// the connection.
    ///
    /// # Errors
    /// [`RejectReason::MemoryLimit`] if the client has its share of the budget, or if that is exceeded and no connection
    /// without a request is left.
    pub fn charge_request(
        &self,
        client: ClientKey,
        protocol: HttpProtocol,
        head: &Parts,
    ) -> Result<RequestCharge, RejectReason> {
        let charge = self.requests.charge(client, request_bytes(protocol, head), &self.memory);
        charge.filter(|_| self.make_memory()).ok_or(RejectReason::MemoryLimit)
    }

    /// Sheds connections until the memory is within its budget. Returns whether it is.
    fn make_memory(&self) -> bool {
        while self.memory.is_over() {
            if !self.shed(PendingTable::memory_victim, ShedCause::Memory) {
                return false;
            }
        }
        true
    }

    /// Sheds a connection for a new one of this client, or of an unknown one. Returns whether the new one may take
    /// its place, although that is not free yet.
    pub fn make_room(&self, client: Option<ClientKey>) -> bool {
        self.shed(|table| table.victim(client), ShedCause::Connections)
    }

    /// As [`make_room`](Self::make_room), but sheds a connection of the same client.
    pub fn make_room_of_client(&self, client: ClientKey) -> bool {
        self.shed(|table| table.victim_of(client), ShedCause::ConnectionsOfClient)
    }

    fn shed(
        &self,
        victim: impl FnOnce(&mut PendingTable) -> Option<PendingEntry>,
        cause: ShedCause,
    ) -> bool {
        let mut table = self.lock();
        // Places become free soon, but no more are promised until then.
        if table.ending >= ENDING_MAX && cause != ShedCause::Memory {
            return false;
        }
        let Some(victim) = victim(&mut table) else { return false };
        // Otherwise it ends at this moment.
        let victim = victim.connection.upgrade();
        if let Some(victim) = &victim {
            table.ending += 1;
            *victim.state() = PendingState::Shed(cause);
            if let Some(charge) = &victim.memory {
                charge.set(0);
            }
            drop(victim.partial_head().take());
        }
        // The victim may be dropped here, which locks the table.
        drop(table);
        if let Some(victim) = victim {
            victim.waker.wake();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, PendingTable> {
        // No code that could panic runs between related updates.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingTable {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The connection to shed for a new one of this client. One that is new itself is shed only if its client has
    /// more silent ones than the other, so that clients which arrive together do not end each other's handshakes.
    fn victim(&mut self, newcomer: Option<ClientKey>) -> Option<PendingEntry> {
        let own = newcomer.map_or(0, |client| self.silent.count(client)) + 1;
        if let Some((client, count)) = self.silent.most() {
            if self.silent.oldest(client).is_some_and(PendingEntry::is_old) {
                return self.silent.pop_oldest(client);
            }
            // The one on which the least work was done.
            if count > own {
                return self.silent.pop_newest(client);
            }
            // Unless the newcomer's client has more than all others.
            let eldest = self.silent.eldest().filter(|_| count == own);
            if let Some(client) = eldest
                && self.silent.oldest(client).is_some_and(PendingEntry::is_old)
            {
                return self.silent.pop_oldest(client);
            }
        }
        let (client, count) = self.idle.most()?;
        let is_shed = count >= own && self.idle.oldest(client).is_some_and(PendingEntry::is_old);
        if is_shed { self.idle.pop_oldest(client) } else { None }
    }

    /// The connection to shed for memory: an idle one, otherwise a silent one. Of those that are new the newest, on
    /// which the least work was done. One client must not close the idle connections of all others with silent ones.
    fn memory_victim(&mut self) -> Option<PendingEntry> {
        let silent = self.silent.most().map_or(0, |(_, count)| count);
        if let Some((client, idle)) = self.idle.most()
            && silent <= idle.max(SILENT_MANY)
        {
            return self.idle.pop_oldest(client);
        }
        let (client, _) = self.silent.most()?;
        match self.silent.oldest(client).is_some_and(PendingEntry::is_old) {
            true => self.silent.pop_oldest(client),
            false => self.silent.pop_newest(client),
        }
    }

    fn victim_of(&mut self, client: ClientKey) -> Option<PendingEntry> {
        for entries in [&mut self.silent, &mut self.idle] {
            if entries.oldest(client).is_some_and(PendingEntry::is_old) {
                return entries.pop_oldest(client);
            }
        }
        None
    }

    /// Removes the entry of a connection in this state. Returns whether there was one.
    fn remove(&mut self, client: ClientKey, state: PendingState) -> bool {
        let removed = match state {
            PendingState::Silent(number) => self.silent.remove(client, number),
            PendingState::Idle(number) => self.idle.remove(client, number),
            PendingState::Busy | PendingState::Shed(_) => None,
        };
        removed.is_some()
    }
}

impl PendingEntry {
    fn new(connection: &Arc<PendingConnection>) -> Self {
        Self { since: now(), connection: Arc::downgrade(connection) }
    }

    fn is_old(&self) -> bool {
        now().duration_since(self.since) >= MIN_AGE
    }
}

impl PendingConnection {
    /// A connection that is never shed, because it is one of a trusted proxy.
    pub fn permanent() -> Arc<Self> {
        Self::new(None, PendingState::Busy, None)
    }

    fn new(
        table: Option<(Arc<PendingConnections>, ClientKey)>,
        state: PendingState,
        memory: Option<MemoryCharge>,
    ) -> Arc<Self> {
        let (is_opened, waker) = (AtomicBool::new(false), AtomicWaker::new());
        let (state, partial_head) = (Mutex::new(state), Mutex::default());
        Arc::new(Self { table, state, is_opened, waker, memory, partial_head })
    }

    /// Whose connection it is when workers share their time: that of its client, or of a trusted proxy, whose connections
    /// are those of many clients and count one by one.
    pub fn share_owner(self: &Arc<Self>) -> u64 {
        match &self.table {
            Some((_, client)) => OWNERS.hash_one(client),
            None => Arc::as_ptr(self).addr() as u64,
        }
    }

    /// Sets how much memory the connection takes in addition to what each one takes that waits, in bytes.
    pub fn set_buffered(&self, bytes: u64) {
        self.set_memory(WAITING_BYTES + bytes);
    }

    /// The connection carries a tunnel: only this many bytes count, until [`set_buffered`](Self::set_buffered).
    pub fn set_tunneling(&self, bytes: u64) {
        self.set_memory(bytes);
    }

    fn set_memory(&self, bytes: u64) {
        let (Some(charge), Some((all, _))) = (&self.memory, &self.table) else { return };
        // Called at each poll, without a lock if it has not grown.
        if charge.set(bytes) {
            if matches!(*self.state(), PendingState::Shed(_)) {
                charge.set(0);
            }
            all.make_memory();
        }
    }

    /// Counts the memory of a request head of which a part was received, until it is set to 0, in bytes.
    ///
    /// # Errors
    /// [`ShedCause::Memory`] if the client has its share of the budget, or if that is exceeded and no other connection
    /// without a request is left: this one must end.
    pub fn set_partial_head(&self, bytes: u64) -> Result<(), ShedCause> {
        let Some((all, client)) = &self.table else { return Ok(()) };
        let before = self.partial_head().take();
        drop(before);
        if bytes == 0 {
            return Ok(());
        }
        let charge = all.requests.charge(*client, bytes, &all.memory).ok_or(ShedCause::Memory)?;
        *self.partial_head() = Some(charge);
        // It may be the one that is shed.
        if all.make_memory() { Ok(()) } else { Err(ShedCause::Memory) }
    }

    /// A request is complete: the connection is not shed until its response has been written.
    pub fn set_busy(&self) {
        self.change(|table, client, state| {
            if table.remove(client, *state) {
                *state = PendingState::Busy;
            }
        });
    }

    /// The response has been written, and the next request is awaited.
    pub fn set_idle(self: &Arc<Self>) {
        // Called at each poll, without a lock of the table if nothing has changed.
        if *self.state() != PendingState::Busy {
            return;
        }
        self.change(|table, client, state| {
            let number = table.number();
            table.idle.push(client, number, PendingEntry::new(self));
            *state = PendingState::Idle(number);
        });
    }

    /// The first response, or the 101, is ready: from now on the connection needs no turn.
    pub fn set_opened(&self) {
        self.is_opened.store(true, Ordering::Relaxed);
    }

    /// See [`set_opened`](Self::set_opened).
    pub fn is_opened(&self) -> bool {
        self.is_opened.load(Ordering::Relaxed)
    }

    /// Ready once the connection must end, because another one needs its place.
    pub fn poll_shed(&self, cx: &mut Context<'_>) -> Poll<ShedCause> {
        if self.table.is_none() {
            return Poll::Pending;
        }
        self.waker.register(cx.waker());
        match *self.state() {
            PendingState::Shed(cause) => Poll::Ready(cause),
            PendingState::Silent(_) | PendingState::Busy | PendingState::Idle(_) => Poll::Pending,
        }
    }

    fn partial_head(&self) -> MutexGuard<'_, Option<RequestCharge>> {
        self.partial_head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut PendingTable, ClientKey, &mut PendingState)) {
        if let Some((table, client)) = &self.table {
            change(&mut table.lock(), *client, &mut self.state());
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.change(|table, client, state| match *state {
            PendingState::Shed(_) => table.ending = table.ending.saturating_sub(1),
            PendingState::Silent(_) | PendingState::Busy | PendingState::Idle(_) => {
                table.remove(client, *state);
            }
        });
    }
}

/// Its keys are random, so that clients cannot choose addresses that look like one owner.
static OWNERS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// How long a connection must have been silent or idle before it counts as old: enough for the handshakes of slow
/// clients, and for the requests of a page.
const MIN_AGE: Duration = Duration::from_secs(2);
/// Connections that were shed and have not ended: the descriptors that are needed beyond the limit.
const ENDING_MAX: usize = 32;
/// Connections of one client without a request, beyond which they are closed for memory before any idle one: more than
/// people behind one address open in the same moment.
const SILENT_MANY: usize = 32;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn add(
        table: &Arc<PendingConnections>,
        client: u8,
        count: usize,
    ) -> Vec<Arc<PendingConnection>> {
        (0..count).map(|_| table.add(ClientKey::sample(client))).collect()
    }

    /// The positions of those that were shed.
    fn shed(connections: &[Arc<PendingConnection>]) -> Vec<usize> {
        let is_shed = |at: &usize| matches!(*connections[*at].state(), PendingState::Shed(_));
        (0..connections.len()).filter(is_shed).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn client_with_most_silent_connections_loses_one() {
        let table = Arc::<PendingConnections>::default();
        let (one, many) = (add(&table, 1, 1), add(&table, 2, 4));
        assert!(table.make_room(Some(ClientKey::sample(3))));
        assert_eq!((shed(&one), shed(&many)), (vec![], vec![3]));
        advance(MIN_AGE).await;
        assert!(table.make_room(None));
        assert_eq!((shed(&one), shed(&many)), (vec![], vec![0, 3]));
        // Its own are as many.
        assert!(table.make_room_of_client(ClientKey::sample(2)));
        assert_eq!(*many[1].state(), PendingState::Shed(ShedCause::ConnectionsOfClient));
        drop((one, many));
        assert_eq!(table.lock().ending, 0);
        assert_eq!(table.lock().silent.most(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_arrive_together_keep_their_places() {
        let table = Arc::<PendingConnections>::default();
        let all: Vec<_> = (1..=9).flat_map(|client| add(&table, client, 1)).collect();
        assert!(!table.make_room(Some(ClientKey::sample(10))));
        assert!(!table.make_room_of_client(ClientKey::sample(1)));
        advance(MIN_AGE).await;
        assert!(table.make_room(Some(ClientKey::sample(10))));
        assert_eq!(shed(&all), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn old_connection_is_found_behind_young_ones_of_others() {
        let table = Arc::<PendingConnections>::default();
        let old = add(&table, 1, 1);
        advance(MIN_AGE).await;
        let (young, own) = (add(&table, 2, 3), add(&table, 3, 2));
        assert!(table.make_room(Some(ClientKey::sample(3))));
        assert_eq!((shed(&old), shed(&young), shed(&own)), (vec![0], vec![], vec![]));
        // Nothing is shed for one that has more than all others.
        let (other, _more) = (add(&table, 4, 1), add(&table, 3, 2));
        advance(MIN_AGE / 2).await;
        assert!(!table.make_room(Some(ClientKey::sample(3))));
        assert!(shed(&other).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_with_requests_come_last_or_stay() {
        let table = Arc::<PendingConnections>::default();
        let mut all = add(&table, 1, 3);
        all[0].set_busy();
        all[1].set_busy();
        all[1].set_idle();
        advance(MIN_AGE).await;
        assert!(table.make_room(Some(ClientKey::sample(2))));
        assert_eq!(shed(&all), [2]);
        // A client that has more silent ones does not get the place of an idle one.
        all.extend(add(&table, 3, 1));
        assert!(!table.make_room(Some(ClientKey::sample(3))));
        assert!(table.make_room(Some(ClientKey::sample(2))));
        assert_eq!(shed(&all), [1, 2]);
        assert!(!table.make_room(None));
        // Its response is written at this moment.
        all[1].set_idle();
        assert_eq!(shed(&all), [1, 2]);
        let permanent = PendingConnection::permanent();
        permanent.set_idle();
        assert!(!table.make_room(None));
    }

    #[tokio::test]
    async fn few_places_are_promised_before_they_are_free() {
        let table = Arc::<PendingConnections>::default();
        let all = add(&table, 1, ENDING_MAX + 3);
        let made = (0..ENDING_MAX + 2).filter(|_| table.make_room(None)).count();
        assert_eq!((made, shed(&all).len()), (ENDING_MAX, ENDING_MAX));
        drop(all);
        let _two = add(&table, 1, 2);
        assert!(table.make_room(None));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_make_memory_before_silent_ones() {
        let table = Arc::<PendingConnections>::default();
        table.set_memory_limit(3 * WAITING_BYTES);
        let mut all = [add(&table, 1, 2), add(&table, 2, 1)].concat();
        all[1].set_busy();
        all[1].set_idle();
        assert_eq!(shed(&all), [] as [usize; 0]);
        all.extend(add(&table, 3, 1));
        assert_eq!(shed(&all), [1]);
        // Of the client with the most, the newest one.
        all.extend(add(&table, 3, 1));
        assert_eq!(shed(&all), [1, 4]);
        all[0].set_busy();
        all[2].set_busy();
        all[0].set_buffered(1);
        assert_eq!(shed(&all), [1, 3, 4]);
        let head = hyper::Request::new(()).into_parts().0;
        assert_eq!(
            table.charge_request(ClientKey::sample(1), HttpProtocol::Http1, &head).unwrap_err(),
            RejectReason::MemoryLimit
        );
        let needed = request_bytes(HttpProtocol::Http1, &head);
        table.set_memory_limit(2 * WAITING_BYTES + 1 + needed);
        let charge =
            table.charge_request(ClientKey::sample(1), HttpProtocol::Http1, &head).unwrap();
        // Nothing is left but itself.
        all.extend(add(&table, 4, 1));
        assert_eq!(shed(&all), [1, 3, 4, 5]);
        drop((charge, all));
        assert_eq!((table.memory.used(), table.lock().ending), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_of_one_client_do_not_end_idle_ones_of_others() {
        let table = Arc::<PendingConnections>::default();
        table.set_memory_limit((3 + SILENT_MANY as u64) * WAITING_BYTES);
        let mut all = [add(&table, 1, 2), add(&table, 2, 1)].concat();
        for connection in &all {
            connection.set_busy();
            connection.set_idle();
        }
        all.extend(add(&table, 3, SILENT_MANY));
        assert_eq!(shed(&all), [] as [usize; 0]);
        all.extend(add(&table, 3, 2));
        assert_eq!(shed(&all), [3 + SILENT_MANY, 4 + SILENT_MANY]);
        // A client with few of them keeps them until no connection is idle.
        all.extend(add(&table, 4, 1));
        assert_eq!(shed(&all), [0, 3 + SILENT_MANY, 4 + SILENT_MANY]);
    }
}
