//! What was relayed, how fast pings were answered, and which Closes went out: the figures of a
//! session's record.

use std::time::Duration;

/// What was relayed. Frames of our own do not count, nor those that were swallowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// From the client to the backend.
    pub up: DirectionStats,
    /// From the backend to the client.
    pub down: DirectionStats,
}

/// What was relayed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Bytes of frames, their headers among them.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
    /// Whole messages that were compressed (RFC 7692).
    pub compressed: u64,
    /// Payload bytes of the largest whole message, as they stood on the wire.
    pub largest: u64,
}

/// How fast one side answers our pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// The last answer.
    pub last: Duration,
    /// The slowest one.
    pub max: Duration,
    /// How many there were.
    pub answers: u32,
}

/// Whole messages by size, for histograms: what passed since it was last emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSizes {
    /// How many messages have at most as many payload bytes as [`MessageSizes::BOUNDS`] says at the same
    /// place, and more than at the place before; the last: more than all bounds.
    pub counts: [u32; MessageSizes::BOUNDS.len() + 1],
    /// Payload bytes of all of them.
    pub payload: u64,
    /// What it took to look into compressed messages, whole or not: about as many bytes copied.
    pub work: u64,
}

impl MessageSizes {
    /// In bytes, each eight times the one before.
    pub const BOUNDS: [u64; 7] = [32, 256, 2048, 16_384, 131_072, 1_048_576, 8_388_608];

    /// One more message.
    #[inline]
    pub fn add(&mut self, payload: u64) {
        // The first five bits are one place, then three each.
        let bits = (payload.saturating_sub(1) | 31).ilog2();
        let place = ((bits - 2) / 3) as usize;
        if let Some(count) = self.counts.get_mut(place.min(Self::BOUNDS.len())) {
            *count += 1;
        }
        self.payload += payload;
    }
}

/// The codes of the Closes that went out, relayed or our own; 1005 for one without a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseCodes {
    /// To the client.
    pub to_client: Option<u16>,
    /// To the backend.
    pub to_backend: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_under_the_first_bound_that_holds_it() {
        for (place, bound) in MessageSizes::BOUNDS.into_iter().enumerate() {
            for (size, at) in [(bound, place), (bound + 1, place + 1)] {
                let mut sizes = MessageSizes::default();
                sizes.add(size);
                assert_eq!(sizes.counts[at], 1, "{size}");
                assert_eq!(sizes.payload, size);
            }
        }
        let mut sizes = MessageSizes::default();
        for size in [0, 1, u64::MAX - 1] {
            sizes.add(size);
        }
        assert_eq!((sizes.counts[0], sizes.counts[7]), (2, 1));
    }
}
