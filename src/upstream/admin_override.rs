//! Drains and weights that an operator sets at run time. They are kept across reloads.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Whether the process, a route or a backend is drained by an operator.
#[derive(Debug, Default)]
pub struct DrainFlag(AtomicBool);

impl DrainFlag {
    /// Whether new tunnels are rejected.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets or clears the flag. Returns whether it changed.
    pub fn set(&self, draining: bool) -> bool {
        self.0.swap(draining, Ordering::Relaxed) != draining
    }
}

/// What an operator set for one backend of one route.
#[derive(Debug, Default)]
pub struct AdminOverride {
    /// A drained backend gets no new tunnels, even if all other backends are ejected.
    pub drain: DrainFlag,
    /// Replaces the configured weight; 0 stands for none.
    weight: AtomicU32,
}

impl AdminOverride {
    /// The weight that replaces the configured one, if any.
    pub fn weight(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.weight.load(Ordering::Relaxed))
    }

    /// Replaces the configured weight; `None` restores it.
    pub fn set_weight(&self, weight: Option<NonZeroU32>) {
        self.weight.store(weight.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }
}
