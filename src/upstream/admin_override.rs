//! What an operator decided while the process runs. It outlives configurations.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether new sessions are kept away from something.
#[derive(Debug, Default)]
pub struct DrainFlag(AtomicBool);

impl DrainFlag {
    /// Whether they are.
    pub fn is_away(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// From now on. Whether that is news.
    pub fn set(&self, away: bool) -> bool {
        self.0.swap(away, Ordering::Relaxed) != away
    }
}

/// What was decided about one backend of one route.
#[derive(Debug, Default)]
pub struct AdminOverride {
    /// Nobody new is sent there, not even when all others are down.
    pub away: DrainFlag,
    /// In place of the file's; 0 is none.
    weight: AtomicU32,
}

impl AdminOverride {
    /// Its share of the clients, if not the file's.
    pub fn weight(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.weight.load(Ordering::Relaxed))
    }

    /// Another share; `None`: the file's.
    pub fn weigh(&self, weight: Option<NonZeroU32>) {
        self.weight.store(weight.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }
}
