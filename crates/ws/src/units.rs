//! Formats values as they are written in the configuration.

use std::time::Duration;

/// A duration in the largest unit that represents it exactly, such as `90s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    match duration.as_nanos() {
        0 => "0s".to_owned(),
        nanos => format_exact(
            nanos,
            &[
                (3_600_000_000_000, "h"),
                (60_000_000_000, "m"),
                (1_000_000_000, "s"),
                (1_000_000, "ms"),
                (1, "ns"),
            ],
        ),
    }
}

/// A number of bytes in the largest unit that represents it exactly, such as `1MiB`.
pub(crate) fn format_size(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        bytes => format_exact(
            u128::from(bytes),
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")],
        ),
    }
}

/// Bytes per second, such as `64KiB/s`.
pub(crate) fn format_rate(bytes: u64) -> String {
    format_size(bytes) + "/s"
}

fn format_exact(amount: u128, units: &[(u128, &str)]) -> String {
    let exact = units.iter().find(|(unit, _)| amount.is_multiple_of(*unit));
    let (unit, name) = exact.copied().unwrap_or((1, ""));
    format!("{}{name}", amount / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_keep_every_digit() {
        for (amount, expected) in
            [(0, "0B"), (1, "1B"), (1023, "1023B"), (2048, "2KiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(format_size(amount), expected);
        }
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500_000_000, "1500ms"),
            (60_000_000_000, "1m"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), expected);
        }
    }
}
