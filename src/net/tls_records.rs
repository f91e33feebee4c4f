//! The work that TLS records cause: how many are decrypted in one poll, and how many a client may send
//! that carry no data.

use std::time::Duration;

use tokio::time::Instant;

/// CPU budget for decryption in one poll, in units of about half a microsecond.
#[derive(Debug)]
pub struct DecryptBudget {
    left: usize,
}

impl DecryptBudget {
    /// A budget of about 250 microseconds.
    pub fn new() -> Self {
        Self { left: BUDGET }
    }

    /// A budget for this many records without data.
    #[cfg(test)]
    pub fn of_records(records: usize) -> Self {
        Self { left: records * WITHOUT_DATA_COST }
    }

    /// Whether other tasks must run before more is decrypted.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Accounts for one read.
    pub fn charge_read(&mut self) {
        self.left = self.left.saturating_sub(READ_COST);
    }

    /// Accounts for decrypted records.
    pub(super) fn charge_records(&mut self, with_data: usize, without_data: usize) {
        let cost = with_data + without_data * WITHOUT_DATA_COST;
        self.left = self.left.saturating_sub(cost);
    }

    /// How many records may be decrypted even if none of them carries data; at least one.
    pub(super) fn records(&self) -> usize {
        (self.left / WITHOUT_DATA_COST).max(1)
    }
}

impl Default for DecryptBudget {
    fn default() -> Self {
        Self::new()
    }
}

/// Complete records at the front of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CompleteRecords {
    pub(super) count: usize,
    /// Their length in bytes.
    pub(super) len: usize,
    /// Whether another complete record follows.
    pub(super) more: bool,
}

impl CompleteRecords {
    /// The first records of `input`: at most `count_max`, together at most `len_max` bytes.
    pub(super) fn of(input: &[u8], count_max: usize, len_max: usize) -> Self {
        let mut found = Self::default();
        while let Some(record) = input.get(found.len..).and_then(record_len) {
            if found.count == count_max || found.len + record > len_max {
                found.more = true;
                break;
            }
            found.count += 1;
            found.len += record;
        }
        found
    }
}

/// The length of the first record with its header (RFC 8446 5.1); `None` if it is incomplete.
fn record_len(input: &[u8]) -> Option<usize> {
    let [_, _, _, high, low, payload @ ..] = input else { return None };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    (payload.len() >= len).then_some(HEADER_BYTES + len)
}

/// Counts the records without data of one connection, for each period of [`WITHOUT_DATA_PERIOD`].
#[derive(Debug)]
pub(super) struct WithoutDataRate {
    since: Instant,
    records: usize,
}

impl WithoutDataRate {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), records: 0 }
    }

    /// Counts `records` more. Returns whether their number is accepted.
    pub(super) fn allows(&mut self, records: usize) -> bool {
        let now = Instant::now();
        if now.duration_since(self.since) >= WITHOUT_DATA_PERIOD {
            *self = Self { since: now, records: 0 };
        }
        self.records = self.records.saturating_add(records);
        self.records <= WITHOUT_DATA_MAX
    }
}

/// A quarter of a millisecond.
const BUDGET: usize = 500;

/// A key update or an empty record takes 4 microseconds; a small record with data takes less than half of one,
/// and the tunnel has to process the data.
const WITHOUT_DATA_COST: usize = 8;

/// A read of a socket takes several microseconds.
const READ_COST: usize = 16;

/// Maximum number of records without data in one [`WITHOUT_DATA_PERIOD`]: a hundred a second on
/// average. Padding against traffic analysis (RFC 8446 5.4) needs a few a second, a key update is
/// needed after 2^24 records.
pub(super) const WITHOUT_DATA_MAX: usize = 1000;

/// The period of [`WITHOUT_DATA_MAX`].
pub(super) const WITHOUT_DATA_PERIOD: Duration = Duration::from_secs(10);

/// Content type, version and length.
const HEADER_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
        [&[23, 3, 3, high, low][..], &vec![0; len]].concat()
    }

    fn found(count: usize, len: usize, more: bool) -> CompleteRecords {
        CompleteRecords { count, len, more }
    }

    #[test]
    fn complete_records_are_counted() {
        let input = [record(0), record(300), record(7)].concat();
        let of = CompleteRecords::of;
        assert_eq!(of(&input, 9, 999), found(3, 322, false));
        assert_eq!(of(&input, 3, 322), found(3, 322, false));
        assert_eq!(of(&input, 2, 999), found(2, 310, true));
        assert_eq!(of(&input, 9, 321), found(2, 310, true));
        assert_eq!(of(&input, 9, 4), found(0, 0, true));
        // What is incomplete does not follow.
        assert_eq!(of(&input[..321], 2, 999), found(2, 310, false));
        assert_eq!(of(&input[..314], 2, 999), found(2, 310, false));
        assert_eq!(of(&input[..309], 2, 999), found(1, 5, false));
        assert_eq!(of(&[], 2, 999), found(0, 0, false));
    }

    #[test]
    fn budget_is_spent_by_records_and_reads() {
        let mut budget = DecryptBudget::new();
        assert_eq!(budget.records(), BUDGET / WITHOUT_DATA_COST);
        budget.charge_records(BUDGET - 1, 0);
        assert!(!budget.is_spent() && budget.records() == 1);
        budget.charge_records(0, 1);
        assert!(budget.is_spent());
        let mut budget = DecryptBudget::new();
        let reads = (0..BUDGET).take_while(|_| {
            budget.charge_read();
            !budget.is_spent()
        });
        assert_eq!(reads.count(), BUDGET / READ_COST);
    }

    #[tokio::test(start_paused = true)]
    async fn rate_is_limited_per_period() {
        let mut rate = WithoutDataRate::new();
        for _ in 0..3 {
            assert!(rate.allows(1) && rate.allows(WITHOUT_DATA_MAX - 1));
            tokio::time::advance(WITHOUT_DATA_PERIOD).await;
        }
        assert!(rate.allows(WITHOUT_DATA_MAX));
        tokio::time::advance(WITHOUT_DATA_PERIOD / 2).await;
        assert!(!rate.allows(1));
    }
}
