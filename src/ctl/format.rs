//! Formats durations, sizes, rates and round-trip times for people.

use std::time::Duration;

/// Formats an age in its two largest units: `312ms`, `45s`, `3m12s`, `2h05m`, `11d03h`.
pub fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes:02}m"),
        86_400.. => format!("{days}d{hours:02}h"),
    }
}

/// Formats a configured duration exactly, as in the configuration file: `30s`, `1m30s`.
pub fn duration(millis: u64) -> String {
    crate::config::values::units::show_duration(Duration::from_millis(millis))
}

/// Formats a number of bytes: `312B`, `1.2MiB`, `340GiB`.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, "B")
}

/// Formats bytes per second: `1.2MiB/s`.
pub fn byte_rate(per_second: f64) -> String {
    format!("{}/s", scaled(per_second, "B"))
}

/// Formats events per second: `0.3`, `12`, `5321`.
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

/// Formats a round-trip time in milliseconds: `0.24ms`, `12ms`, `1.3s`; `-` without one.
pub fn round_trip(millis: Option<f64>) -> String {
    match millis {
        None => "-".to_owned(),
        Some(millis) if millis < 1.0 => format!("{millis:.2}ms"),
        Some(millis) if millis < 10.0 => format!("{millis:.1}ms"),
        Some(millis) if millis < 999.5 => format!("{millis:.0}ms"),
        Some(millis) => format!("{:.1}s", millis / 1000.0),
    }
}

/// Formats a count with its noun: `1 tunnel`, `2 tunnels`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Formats the UTC time of day of a Unix time in seconds: `12:34:56.500`.
pub fn time_of_day(unix_seconds: f64) -> String {
    let millis = (unix_seconds.max(0.0) * 1000.0).round() as u64 % 86_400_000;
    let (seconds, minutes) = (millis / 1000, millis / 60_000);
    format!("{:02}:{:02}:{:02}.{:03}", minutes / 60, minutes % 60, seconds % 60, millis % 1000)
}

fn scaled(number: f64, unit: &str) -> String {
    if number < 999.5 {
        return format!("{number:.0}{unit}");
    }
    let mut number = number;
    let mut prefix = "";
    for larger in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if number < 999.5 {
            break;
        }
        (number, prefix) = (number / 1024.0, larger);
    }
    match number < 9.95 {
        true => format!("{number:.1}{prefix}{unit}"),
        false => format!("{number:.0}{prefix}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        for (millis, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (59_999, "59s"),
            (60_000, "1m00s"),
            (192_000, "3m12s"),
            (3_600_000, "1h00m"),
            (7_530_000, "2h05m"),
            (86_400_000, "1d00h"),
            (961_200_000, "11d03h"),
        ] {
            assert_eq!(age(millis), expected);
        }
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (number, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0KiB"),
            (1024, "1.0KiB"),
            (10_200, "10KiB"),
            (1_258_291, "1.2MiB"),
            (1_048_064_000, "1.0GiB"),
            (365_072_220_160, "340GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(byte_rate(1536.0), "1.5KiB/s");
    }

    #[test]
    fn small_rates_and_round_trips_keep_decimals() {
        assert_eq!([0.0, 0.34, 9.96, 5321.4].map(rate), ["0", "0.3", "10", "5321"]);
        let trips = [None, Some(0.241), Some(3.25), Some(12.4), Some(999.6)].map(round_trip);
        assert_eq!(trips, ["-", "0.24ms", "3.2ms", "12ms", "1.0s"]);
        assert_eq!(time_of_day(1_735_689_599.999_6), "00:00:00.000");
        assert_eq!(time_of_day(45_296.5), "12:34:56.500");
        assert_eq!((count(1, "tunnel"), count(0, "route")), ("1 tunnel".into(), "0 routes".into()));
    }
}
