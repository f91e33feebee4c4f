//! The listening sockets of the process and the tasks that accept on them. A reload binds what is
//! new before it lets go of what was removed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::{error, info};

use super::chance::fraction;
use super::gate::{Gate, now};
use super::journey;
use crate::accept::{BindFault, Event, Listener};
use crate::config::settings::ListenerSettings;

/// A listener by its address as configured, and its place among those with the same one (only
/// port 0 may repeat). Names may change over a reload; the socket behind an address stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DoorKey {
    address: SocketAddr,
    place: usize,
}

/// All open doors.
#[derive(Debug, Default)]
pub struct Doors {
    open: HashMap<DoorKey, JoinHandle<()>>,
}

/// Sockets that are bound, but do not accept yet.
#[derive(Debug)]
pub struct Bound(Vec<(DoorKey, ListenerSettings, Listener)>);

/// The listeners with their keys.
pub fn keys(listeners: &[ListenerSettings]) -> impl Iterator<Item = (DoorKey, &ListenerSettings)> {
    listeners.iter().enumerate().map(|(index, listener)| {
        let address = listener.address;
        let place = listeners[..index].iter().filter(|other| other.address == address).count();
        (DoorKey { address, place }, listener)
    })
}

impl Doors {
    /// Binds every wanted address that is not open yet; if one fails, none is kept.
    pub fn bind(&self, wanted: &[ListenerSettings]) -> Result<Bound, BindFault> {
        let mut bound = Vec::new();
        for (key, settings) in keys(wanted) {
            if !self.open.contains_key(&key) {
                bound.push((key, settings.clone(), Listener::bind(key.address)?));
            }
        }
        Ok(Bound(bound))
    }

    /// Begins to accept on what was bound.
    pub fn open(&mut self, gate: &Arc<Gate>, bound: Bound) {
        for (key, settings, listener) in bound.0 {
            let address = listener.local();
            info!(listener = &*settings.name, %address, tls = settings.tls, "listening");
            let accepting = accept(gate.clone(), listener, key);
            #[expect(clippy::disallowed_methods, reason = "not a connection: a drain aborts it")]
            let task = tokio::spawn(accepting);
            self.open.insert(key, task);
        }
    }

    /// Closes what is wanted no more. Connections that came in by a closed door live on; its
    /// address is free.
    pub async fn keep(&mut self, wanted: &[ListenerSettings]) {
        let kept: Vec<DoorKey> = keys(wanted).map(|(key, _)| key).collect();
        for (key, task) in self.open.extract_if(|key, _| !kept.contains(key)) {
            shut(task).await;
            info!(address = %key.address, "no longer listening");
        }
    }

    /// Closes every door.
    pub async fn close(&mut self) {
        for (_, task) in self.open.drain() {
            shut(task).await;
        }
    }
}

/// Ends an accept loop. Its socket closes with it, and only then will the kernel refuse whoever
/// comes, and let the address be bound anew.
async fn shut(task: JoinHandle<()>) {
    task.abort();
    // Cancelled, as it was told.
    let _ = task.await;
}

async fn accept(gate: Arc<Gate>, listener: Listener, key: DoorKey) {
    let mut told: Option<Instant> = None;
    let each = move |event| match event {
        Event::Connection(accepted) => {
            gate.tasks.spawn(journey::serve(gate.clone(), accepted, key));
        }
        Event::Paused(reason, pause) => {
            if let Some(counts) = gate.generation().listener_counts(key) {
                counts.pauses.add_one();
            }
            if told.is_none_or(|then| now().duration_since(then) > TELL_EVERY) {
                told = Some(now());
                let open = gate.occupancy.connections();
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
    listener.run(fraction, each).await;
}

/// A machine that is out of descriptors does not need a full log as well.
const TELL_EVERY: Duration = Duration::from_secs(10);
