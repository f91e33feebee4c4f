//! Drains and weights that an operator sets at run time. They are kept across reloads.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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

    /// Whether anything is set.
    pub fn is_set(&self) -> bool {
        self.drain.is_draining() || self.weight().is_some()
    }

    /// Replaces the configured weight; `None` restores it.
    pub fn set_weight(&self, weight: Option<NonZeroU32>) {
        self.weight.store(weight.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }
}

/// What an operator set for single addresses of a name. If an address leaves the answer, this is kept for ten minutes, since
/// it may be missing by mistake, for at most 100 addresses; of more, those that left first are forgotten.
#[derive(Debug, Default)]
pub struct AddressOverrides(Mutex<Vec<AddressOverride>>);

#[derive(Debug)]
struct AddressOverride {
    address: Arc<str>,
    value: Arc<AdminOverride>,
    /// Since when it is not in the answer.
    absent: Option<Instant>,
}

/// What an operator set for an address that has left the answer.
#[derive(Debug)]
pub struct KeptOverride {
    /// The address.
    pub address: Arc<str>,
    /// What was set.
    pub value: Arc<AdminOverride>,
    /// How long it is kept.
    pub left: Duration,
}

impl AddressOverrides {
    /// That of an address in the answer; `new` if there is none.
    pub fn get(&self, address: &Arc<str>, new: Arc<AdminOverride>) -> Arc<AdminOverride> {
        self.entry(address, new, None)
    }

    /// That of an address that has left the answer.
    pub fn get_absent(&self, address: &Arc<str>) -> Arc<AdminOverride> {
        self.entry(address, Arc::default(), Some(Instant::now()))
    }

    fn entry(
        &self,
        address: &Arc<str>,
        new: Arc<AdminOverride>,
        absent: Option<Instant>,
    ) -> Arc<AdminOverride> {
        let mut all = self.lock();
        if let Some(known) = all.iter().find(|known| known.address == *address) {
            return known.value.clone();
        }
        all.push(AddressOverride { address: address.clone(), value: new.clone(), absent });
        new
    }

    /// That of this address, if there is one.
    pub fn find(&self, address: &str) -> Option<Arc<AdminOverride>> {
        let all = self.lock();
        all.iter().find(|known| *known.address == *address).map(|known| known.value.clone())
    }

    /// Records which addresses are in the answer, and returns those that are back and have what was set before.
    pub fn settle(
        &self,
        is_present: impl Fn(&Arc<str>) -> bool,
    ) -> Vec<(Arc<str>, Arc<AdminOverride>)> {
        let (mut all, now) = (self.lock(), Instant::now());
        let mut back = Vec::new();
        all.retain_mut(|known| {
            if is_present(&known.address) {
                if known.absent.take().is_some() && known.value.is_set() {
                    back.push((known.address.clone(), known.value.clone()));
                }
                return true;
            }
            known.absent.get_or_insert(now);
            known.value.is_set()
        });
        let mut left: Vec<_> = all.iter().filter_map(|known| known.absent).collect();
        left.sort_unstable();
        if let Some(first) = left.len().checked_sub(KEPT_MAX + 1).and_then(|last| left.get(last)) {
            all.retain(|known| known.absent.is_none_or(|since| since > *first));
        }
        back
    }

    /// Those of addresses that have left the answer.
    pub fn kept(&self) -> Vec<KeptOverride> {
        let (all, now) = (self.lock(), Instant::now());
        let kept = all.iter().filter(|known| known.value.is_set()).filter_map(|known| {
            let (address, value) = (known.address.clone(), known.value.clone());
            let left = (known.absent? + KEPT_TIME).saturating_duration_since(now);
            Some(KeptOverride { address, value, left })
        });
        kept.collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<AdminOverride>> {
        self.lock().iter().map(|known| known.value.clone()).collect()
    }

    /// The drains, for a name with another configured weight.
    pub fn without_weights(&self) -> Self {
        let all = self.lock();
        let drains = all.iter().map(|known| {
            let value = AdminOverride::default();
            value.drain.set(known.value.drain.is_draining());
            let (address, absent) = (known.address.clone(), known.absent);
            AddressOverride { address, value: Arc::new(value), absent }
        });
        Self(Mutex::new(drains.collect()))
    }

    /// Those that have not expired.
    fn lock(&self) -> MutexGuard<'_, Vec<AddressOverride>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|known| known.absent.is_none_or(|since| since + KEPT_TIME > now));
        all
    }
}

/// How long it is kept for an address that has left the answer.
const KEPT_TIME: Duration = Duration::from_secs(600);
/// Addresses outside of the answer for which it is kept.
const KEPT_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(overrides: &AddressOverrides, number: usize) {
        let address = number.to_string().into();
        overrides.get(&address, Arc::default()).drain.set(true);
    }

    fn kept(overrides: &AddressOverrides) -> Vec<String> {
        overrides.kept().iter().map(|kept| kept.address.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn absent_address_keeps_what_was_set_for_a_time() {
        let overrides = AddressOverrides::default();
        set(&overrides, 1);
        overrides.get(&"2".into(), Arc::default());
        assert!(overrides.settle(|_| true).is_empty() && kept(&overrides).is_empty());
        assert!(overrides.settle(|_| false).is_empty());
        assert_eq!(kept(&overrides), ["1"]);
        tokio::time::advance(KEPT_TIME - Duration::from_secs(1)).await;
        assert_eq!(overrides.kept()[0].left, Duration::from_secs(1));
        assert_eq!(overrides.settle(|_| true).len(), 1);
        assert!(overrides.find("1").unwrap().drain.is_draining());
        overrides.settle(|_| false);
        tokio::time::advance(KEPT_TIME).await;
        assert!(overrides.find("1").is_none());
        assert!(!overrides.get(&"1".into(), Arc::default()).drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_absent_addresses_is_limited() {
        let overrides = AddressOverrides::default();
        for number in 0..KEPT_MAX + 3 {
            set(&overrides, number);
            overrides.settle(|_| false);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let kept = kept(&overrides);
        assert_eq!((kept.len(), &*kept[0]), (KEPT_MAX, "3"));
    }
}
