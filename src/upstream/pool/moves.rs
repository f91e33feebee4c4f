//! Which open tunnels would have another backend now. Rebalancing closes these, so that their clients come back to it.

use std::fmt;
use std::sync::Arc;

use super::choosing::{ChoicePurpose, ChoiceRequest};
use super::{Backend, Pool};
use crate::config::settings::choice::Balance;
use crate::config::values::share::Share;
use crate::upstream::choice::key::ChoiceKey;
use crate::upstream::choice::order::Method;
use crate::upstream::choice::rendezvous::KeyHash;

/// Why a pool has no tunnels that belong elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMovable {
    /// A client has no backend of its own with this `balance`.
    Balance(Balance),
    /// A key that is in use stays where it is.
    BalanceFactor,
    /// Clients come back to the backend that their cookie names.
    Pinned,
}

/// For the operator.
impl fmt::Display for NotMovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance(balance) => {
                write!(
                    f,
                    "with balance = \"{}\" clients have no backend of their own",
                    balance.name()
                )
            }
            Self::BalanceFactor => {
                f.write_str("with hash_balance_factor a key stays where it is in use")
            }
            Self::Pinned => f.write_str("with a pin cookie clients come back to their backend"),
        }
    }
}

/// What decides about the backends of the tunnels of a pool. A change may let some of them have another one.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolComposition {
    backends: Vec<(Arc<str>, u32, bool)>,
    canary_share: Share,
}

impl Pool {
    /// The backends with their weights, and which of them accept tunnels.
    pub fn composition(&self) -> PoolComposition {
        let of = |backend: &Arc<Backend>| {
            (backend.id.clone(), backend.effective_weight().get(), is_accepting(backend))
        };
        let backends = self.backends().iter().map(of).collect();
        PoolComposition { backends, canary_share: self.canary_share() }
    }

    /// Whether the backend of each tunnel follows from its key alone.
    ///
    /// # Errors
    /// Why it does not.
    pub fn is_movable(&self) -> Result<(), NotMovable> {
        match self.settings.balance {
            Balance::Hash if self.pins.is_some() => Err(NotMovable::Pinned),
            Balance::Hash if self.settings.hash_balance_factor.is_some() => {
                Err(NotMovable::BalanceFactor)
            }
            Balance::Hash => Ok(()),
            Balance::LeastConnections | Balance::RoundRobin | Balance::RandomTwo => {
                Err(NotMovable::Balance(self.settings.balance))
            }
        }
    }

    /// Whether the backend with this id is a canary.
    pub fn is_canary(&self, id: &str) -> bool {
        self.backends().iter().any(|backend| backend.is_canary && *backend.id == *id)
    }

    /// Whether no request goes to the canary backends any more.
    pub fn is_canary_aborted(&self) -> bool {
        let is_off = self.canary_share() == Share::ZERO;
        is_off
            && (self.state.canary.get(&self.settings.canary).is_some()
                || self.settings.canary.request.is_none())
    }

    /// Whether some weight is still growing after a recovery, so that more tunnels will belong elsewhere soon.
    pub fn is_ramping(&self) -> bool {
        let is_growing =
            |backend: &Arc<Backend>| is_accepting(backend) && self.ramp(backend).is_some();
        self.backends().iter().any(is_growing)
    }

    /// The backend that a new tunnel with this key would have, if it is another one than that of an open tunnel. `key` is
    /// `None` if the tunnel was chosen by something else than the pool hashes now. A tunnel stays if its backend is gone,
    /// drained or down, which is for `on_backend_loss` to decide, and if the other one does not accept tunnels.
    pub fn moved_to(&self, current: &str, key: Option<KeyHash>) -> Option<Arc<Backend>> {
        let current = self.backends().iter().find(|backend| *backend.id == *current)?.clone();
        if !is_accepting(&current) {
            return None;
        }
        let leaves_canary = current.is_canary && self.is_canary_aborted();
        if !leaves_canary && (self.is_movable().is_err() || key.is_none()) {
            return None;
        }
        let hash = key.unwrap_or(KeyHash::of_text(b""));
        // A canary request may have been marked, which its tunnel does not remember.
        let is_marked = current.is_canary && self.settings.canary.request.is_some();
        let key = ChoiceKey { hash, is_fallback: false };
        let request = ChoiceRequest { key, pinned: None, is_marked };
        let method = Method::Hash { balance_factor: None };
        let order = self.order(&request, ChoicePurpose::OpenTunnel(&current.id), method).ok()?;
        let first = order.backends.into_iter().next()?;
        (first.id != current.id && is_accepting(&first)).then_some(first)
    }
}

/// Whether it gets new tunnels as usual.
fn is_accepting(backend: &Arc<Backend>) -> bool {
    !backend.is_draining() && !backend.is_ejected() && !backend.is_down_by_probe()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::scripted::{pool_of, scripted_pool};
    use tokio::time::Instant;

    fn key(number: usize) -> KeyHash {
        KeyHash::of_text(format!("client-{number}").as_bytes())
    }

    /// The backend that the pool chooses for a new tunnel with this key.
    fn chosen(pool: &Pool, number: usize) -> Arc<str> {
        let key = ChoiceKey { hash: key(number), is_fallback: false };
        let request = ChoiceRequest { key, pinned: None, is_marked: false };
        pool.predict(&request, &crate::net::network::SystemNet).unwrap().backends[0].id.clone()
    }

    const KEYS: usize = 9_000;

    #[test]
    fn fourth_backend_gets_a_quarter_and_no_other_moves() {
        let (three, four) = (pool_of(3), pool_of(4));
        let mut moved = 0;
        for number in 0..KEYS {
            let current = chosen(&three, number);
            assert_eq!(three.moved_to(&current, Some(key(number))).map(|to| to.id.clone()), None);
            if let Some(to) = four.moved_to(&current, Some(key(number))) {
                assert_eq!((&*to.id, &*chosen(&four, number)), ("3", "3"));
                moved += 1;
            } else {
                assert_eq!(current, chosen(&four, number));
            }
        }
        assert!((KEYS * 24 / 100..=KEYS * 26 / 100).contains(&moved), "{moved} of {KEYS}");
    }

    #[test]
    fn tunnels_of_lost_backends_stay() {
        let four = pool_of(4);
        let of_three = pool_of(3);
        let number = (0..).find(|number| chosen(&four, *number) == "3".into()).unwrap();
        let current = chosen(&of_three, number);
        assert!(four.moved_to(&current, Some(key(number))).is_some());
        assert!(four.moved_to(&current, None).is_none(), "chosen by another part of the request");
        assert!(four.moved_to("removed", Some(key(number))).is_none());
        let index: usize = current.parse().unwrap();
        four.backends()[index].admin_override.drain.set(true);
        assert!(four.moved_to(&current, Some(key(number))).is_none(), "a drain closes it");
        four.backends()[index].admin_override.drain.set(false);
        let now = Instant::now();
        let _ = [(); 3].map(|()| four.backends()[3].health.record_failure(now, now));
        assert!(four.moved_to(&current, Some(key(number))).is_none(), "the other one is down");
    }

    #[test]
    fn full_backend_keeps_its_tunnels_and_gets_no_others() {
        let pool = scripted_pool(2, |settings| {
            settings.backends.iter_mut().for_each(|backend| backend.max_tunnels = Some(1));
        });
        let number = (0..).find(|number| chosen(&pool, *number) == "0".into()).unwrap();
        let queue = &pool.state.queue;
        let _own = pool.backends()[0].load.tunnels.enter(None, queue).unwrap();
        assert!(pool.moved_to("0", Some(key(number))).is_none(), "its own place is not free");
        assert!(pool.moved_to("1", Some(key(number))).is_none(), "the other one is full");
    }

    #[test]
    fn aborted_canary_sends_all_home() {
        let pool = scripted_pool(3, |settings| {
            settings.backends[2].is_canary = true;
            settings.choice.canary.share = Share::percent(50);
            settings.choice.balance = Balance::RoundRobin;
        });
        assert!(pool.is_movable().is_err() && !pool.is_canary_aborted());
        assert!((0..50).all(|number| pool.moved_to("2", Some(key(number))).is_none()));
        pool.state().canary.set(Some(Share::ZERO), &pool.settings().canary);
        assert!(pool.is_canary_aborted());
        assert!((0..50).all(|number| pool.moved_to("2", Some(key(number))).is_some()));
        assert!((0..50).all(|number| pool.moved_to("0", Some(key(number))).is_none()));
    }
}
