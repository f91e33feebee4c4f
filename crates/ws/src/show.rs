//! Values as an operator would write them.

use std::time::Duration;

/// In the largest unit that leaves nothing over.
pub(super) fn duration(duration: Duration) -> String {
    match duration.as_nanos() {
        0 => "0s".to_owned(),
        nanos => in_units(
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

/// Likewise.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        bytes => in_units(
            u128::from(bytes),
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")],
        ),
    }
}

fn in_units(amount: u128, units: &[(u128, &str)]) -> String {
    let fits = units.iter().find(|(unit, _)| amount.is_multiple_of(*unit));
    let (unit, name) = fits.copied().unwrap_or((1, ""));
    format!("{}{name}", amount / unit)
}

/// Bytes a second.
pub(super) fn rate(bytes: u64) -> String {
    size(bytes) + "/s"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_keep_every_digit() {
        for (amount, written) in
            [(0, "0B"), (1, "1B"), (1023, "1023B"), (2048, "2KiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(size(amount), written);
        }
        for (nanos, written) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500_000_000, "1500ms"),
            (60_000_000_000, "1m"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), written);
        }
    }
}
