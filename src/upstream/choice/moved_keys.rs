//! Which keys were moved to another backend lately, so that no client is moved again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rendezvous::KeyHash;

/// When the tunnels of each key were last closed so that they move, for [`HOLD`]. At most [`KEYS_MAX`].
#[derive(Debug, Default)]
pub struct MovedKeys(Mutex<HashMap<KeyHash, Instant>>);

impl MovedKeys {
    /// Whether a tunnel with this key that was opened at this time may be closed: the key was not moved lately, or the
    /// tunnel is older, so that it was not moved itself.
    pub fn may_move(&self, key: KeyHash, opened: Instant, now: Instant) -> bool {
        let moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match moved.get(&key) {
            Some(at) => opened < *at || now.saturating_duration_since(*at) >= HOLD,
            None => true,
        }
    }

    /// Records that a tunnel with this key is closed. False if too many keys are remembered: it must stay open.
    pub fn record(&self, key: KeyHash, now: Instant) -> bool {
        let mut moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.len() >= KEYS_MAX {
            moved.retain(|_, at| now.saturating_duration_since(*at) < HOLD);
        }
        if moved.len() >= KEYS_MAX && !moved.contains_key(&key) {
            return false;
        }
        moved.insert(key, now);
        true
    }
}

/// How long a client that was moved stays where it is.
pub const HOLD: Duration = Duration::from_secs(600);
/// About 3 MB. With more keys in the time of [`HOLD`], 218 in a second, the others wait.
const KEYS_MAX: usize = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::now;

    #[test]
    fn key_moves_once_in_ten_minutes() {
        let (keys, start) = (MovedKeys::default(), now());
        let [key, other] = [b"a", b"b"].map(|text| KeyHash::of_text(text));
        let moved = start + Duration::from_secs(60);
        assert!(keys.may_move(key, start, moved) && keys.record(key, moved));
        // Another tunnel of the same room, and the one that the client opens then.
        assert!(keys.may_move(key, start, moved));
        let again = moved + Duration::from_secs(1);
        assert!(!keys.may_move(key, again, again + HOLD - Duration::from_secs(2)));
        assert!(keys.may_move(key, again, again + HOLD));
        assert!(keys.may_move(other, again, again));
    }

    #[test]
    fn number_of_keys_is_bounded() {
        let (keys, start) = (MovedKeys::default(), now());
        let key = |number: usize| KeyHash::of_text(&number.to_le_bytes());
        assert!((0..KEYS_MAX).all(|number| keys.record(key(number), start)));
        assert!(!keys.record(key(KEYS_MAX), start) && keys.record(key(0), start));
        assert!(keys.record(key(KEYS_MAX), start + HOLD));
        assert_eq!(keys.0.lock().unwrap().len(), 1);
    }
}
