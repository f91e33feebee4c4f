//! Timestamps of log lines: RFC 3339 in UTC, with milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::ascii::push_digits;

/// A point in time, formatted as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTime {
    /// Seconds since 1970, UTC.
    seconds: u64,
    millis: u32,
}

impl LogTime {
    /// The current time; a clock set before 1970 counts as 1970.
    pub fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a line says when it was written")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), millis: since.subsec_millis() }
    }
}

impl LogTime {
    /// Appends the time to a line.
    pub fn write_to(self, bytes: &mut Vec<u8>) {
        push_second(bytes, self.seconds);
        bytes.push(b'.');
        push_digits::<3>(bytes, self.millis.into());
        bytes.push(b'Z');
    }
}

/// Formats seconds since 1970 as RFC 3339 in UTC, without fractions.
pub fn rfc3339(seconds: u64) -> String {
    let mut bytes = Vec::with_capacity(RFC3339_BYTES);
    push_second(&mut bytes, seconds);
    bytes.push(b'Z');
    bytes.into_iter().map(char::from).collect()
}

/// Appends seconds since 1970, without the time zone.
fn push_second(bytes: &mut Vec<u8>, seconds: u64) {
    let (year, month, day) = date(seconds / DAY);
    push_digits::<4>(bytes, year);
    for (separator, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', seconds % DAY / 3600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        bytes.push(separator);
        push_digits::<2>(bytes, number);
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from March 1 of year 0, so that a leap day is the last day of its year and the
    // calendar repeats every 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, the lengths of months repeat as 31, 30, 31, 30, 31.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, past_new_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year_of_era + past_new_year, month, day)
}

const DAY: u64 = 86_400;
const ERA_DAYS: u64 = 146_097;
const RFC3339_BYTES: usize = "1970-01-01T00:00:00Z".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_match_the_calendar() {
        // Expected values from `date -u --date @seconds`.
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_709_164_800, "2024-02-29T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
            // Beyond signed and unsigned 32-bit seconds.
            (2_147_483_648, "2038-01-19T03:14:08.007Z"),
            (4_294_967_296, "2106-02-07T06:28:16.007Z"),
        ] {
            let mut line = Vec::new();
            LogTime { seconds, millis: 7 }.write_to(&mut line);
            assert_eq!(line, written.as_bytes());
            assert_eq!(rfc3339(seconds), written.replace(".007", ""));
        }
    }
}
