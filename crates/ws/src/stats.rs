//! Statistics of a session: relayed traffic, round-trip times and close codes.

use std::time::Duration;

use crate::side::Side;
use crate::violation::ReportedViolations;

/// Relayed traffic. Frames that the proxy inserts or discards do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// From the client to the backend.
    pub up: DirectionStats,
    /// From the backend to the client.
    pub down: DirectionStats,
}

impl Stats {
    /// Bytes relayed from a side.
    #[inline]
    pub(crate) fn bytes_from(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.up.bytes,
            Side::Backend => self.down.bytes,
        }
    }
}

/// Relayed traffic of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Bytes of frames, headers included.
    pub bytes: u64,
    /// Complete messages.
    pub messages: u64,
    /// Complete messages that were compressed (RFC 7692).
    pub compressed: u64,
    /// Payload of the largest complete message as received, in bytes.
    pub largest: u64,
}

/// Round-trip times of the proxy's pings to one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// The most recent one.
    pub last: Duration,
    /// The longest one.
    pub max: Duration,
    /// Number of measurements.
    pub answers: u32,
}

/// The time for which reading from a side was suspended to enforce a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadDelays {
    /// The total time, in whole milliseconds.
    pub time: Duration,
    /// The limits that caused delays.
    pub by: ReportedViolations,
}

/// A histogram of complete messages by size. The caller empties it after use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageSizes {
    /// Messages per bucket: `counts[i]` counts payloads of at most [`MessageSizes::BOUNDS`]`[i]`
    /// bytes that do not fit the previous bucket; the last one counts all larger payloads.
    pub counts: [u32; MessageSizes::BOUNDS.len() + 1],
    /// Total payload in bytes.
    pub payload: u64,
    /// CPU cost of checking frames beyond that of relaying their bytes, in bytes copied; that of short
    /// messages in one frame is not counted.
    pub work: u64,
}

impl MessageSizes {
    /// Upper bounds of the buckets in bytes; each is eight times the previous one.
    pub const BOUNDS: [u64; 7] = [32, 256, 2048, 16_384, 131_072, 1_048_576, 8_388_608];

    /// Adds a message of `payload` bytes.
    #[inline]
    pub fn add(&mut self, payload: u64) {
        // The first five bits share a bucket, then three bits each.
        let bits = (payload.saturating_sub(1) | 31).ilog2();
        let bucket = ((bits - 2) / 3) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(Self::BOUNDS.len())) {
            *count += 1;
        }
        self.payload += payload;
    }
}

/// The codes of the Close frames sent so far, relayed or created by the proxy. A Close frame without
/// a code counts as 1005.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseCodes {
    /// Sent to the client.
    pub to_client: Option<u16>,
    /// Sent to the backend.
    pub to_backend: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_counts_in_the_first_bucket_that_fits() {
        for (bucket, bound) in MessageSizes::BOUNDS.into_iter().enumerate() {
            for (size, at) in [(bound, bucket), (bound + 1, bucket + 1)] {
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
