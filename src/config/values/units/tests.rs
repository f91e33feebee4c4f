use proptest::prelude::*;

use super::*;

fn error<T: fmt::Debug>(result: Result<T, Problem>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn sizes_have_binary_units() {
    for (text, bytes) in
        [("1B", 1), ("500B", 500), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
    {
        assert_eq!(ByteSize::parse(text).unwrap().get(), bytes, "{text}");
    }
    assert_eq!(ByteSize::new(1 << 20).to_string(), "1MiB");
    assert_eq!(ByteSize::new(1025).to_string(), "1025B");
    assert_eq!(ByteSize::new(0).to_string(), "0B");
}

// Requirements: CF05.
#[test]
fn rejects_decimal_units_with_a_suggestion() {
    assert_eq!(
        error(ByteSize::parse("1MB")),
        "\"MB\" is not a unit of size (write \"1MiB\", which is 1048576 bytes)"
    );
    assert_eq!(
        error(ByteSize::parse("64 kib")),
        "\" kib\" is not a unit of size (write \"64KiB\", which is 65536 bytes)"
    );
    assert_eq!(
        error(ByteSize::parse("1TiB")),
        "\"TiB\" is not a unit of size (the units are B, KiB, MiB and GiB, as in \"1MiB\")"
    );
    assert_eq!(
        error(ByteSize::parse("500")),
        "\"500\" has no unit (write \"500B\" for bytes, or a size such as \"1MiB\")"
    );
}

// Requirements: CF05.
#[test]
fn rejects_sizes_beyond_the_maximum_frame_length() {
    assert_eq!(ByteSize::parse("9223372036854775807B").unwrap().get(), (1 << 63) - 1);
    for text in [
        "9223372036854775808B",
        "8589934592GiB",
        "18446744073709551615GiB",
        "99999999999999999999B",
    ] {
        let problem = format!("\"{text}\" is too large (the maximum is \"9223372036854775807B\")");
        assert_eq!(error(ByteSize::parse(text)), problem);
    }
}

#[test]
fn durations_are_one_number_and_one_unit() {
    for (text, millis) in
        [("1ms", 1), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("365d", 31_536_000_000)]
    {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration, Duration::from_millis(millis), "{text}");
        assert_eq!(show_duration(duration), text);
    }
    assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    assert_eq!(show_duration(Duration::from_secs(7200)), "2h");
}

#[test]
fn compared_durations_are_shown_in_one_unit() {
    let show = |times: [u64; 2]| show_in_one_unit(times.map(Duration::from_millis));
    assert_eq!(show([1_200_000, 1_510_000]), ["1200s", "1510s"]);
    assert_eq!(show([7_200_000, 3_600_000]), ["2h", "1h"]);
    assert_eq!(show([60_000, 1_500]), ["60000ms", "1500ms"]);
}

// Requirements: CF05.
#[test]
fn rejects_invalid_durations() {
    for (text, expected) in [
        ("", "\"\" is not a duration (write one whole number and one unit, as in \"30s\")"),
        ("s", "\"s\" is not a duration (write one whole number and one unit, as in \"30s\")"),
        ("+5s", "\"+5s\" is not a duration (write one whole number and one unit, as in \"30s\")"),
        ("-5s", "\"-5s\" is not a duration (write one whole number and one unit, as in \"30s\")"),
        (
            "1.5h",
            "\"1.5h\" is not a whole number (write one whole number and one unit, as in \"30s\")",
        ),
        ("1h30m", "\"1h30m\" contains more than one number (write \"90m\")"),
        ("10 sec", "\" sec\" is not a unit of time (write \"10s\")"),
        ("365 days", "\" days\" is not a unit of time (write \"365d\")"),
        ("366d", "\"366d\" is longer than a year (the maximum is \"365d\")"),
        ("1y", "\"y\" is not a unit of time (the units are ms, s, m, h and d, as in \"30s\")"),
        ("30", "\"30\" has no unit (write \"30s\" for seconds)"),
        ("0h", "a duration of 0 would expire immediately (the minimum is \"1ms\")"),
        ("8761h", "\"8761h\" is longer than a year (the maximum is \"365d\")"),
        (
            "18446744073709551615h",
            "\"18446744073709551615h\" is longer than a year (the maximum is \"365d\")",
        ),
        (
            "99999999999999999999s",
            "\"99999999999999999999s\" is longer than a year (the maximum is \"365d\")",
        ),
    ] {
        assert_eq!(error(parse_duration(text)), expected);
    }
}

#[test]
fn rates_are_per_second() {
    assert_eq!(PerSecond::parse("20/s").unwrap().0.get(), 20);
    for text in ["20", "20/m", "/s", "+1/s", "20/ s", "0/s", "99999999999999999999/s"] {
        assert!(PerSecond::parse(text).is_err(), "{text}");
    }
    assert_eq!(
        error(PerSecond::parse("1.5/s")),
        "the number before /s in \"1.5/s\" is not a whole number \
         (write a number per second, as in \"20/s\")"
    );
    for text in ["4294967296/s", "99999999999999999999/s"] {
        let problem = format!("\"{text}\" is more than 4294967295/s");
        let expected = format!("{problem} (the maximum is \"4294967295/s\")");
        assert_eq!(error(PerSecond::parse(text)), expected);
    }
}

#[test]
fn byte_rates_are_sizes_per_second() {
    for (text, bytes) in [("1B/s", 1), ("64KiB/s", 65_536), ("2GiB/s", 2 << 30)] {
        assert_eq!(BytesPerSecond::parse(text).unwrap().0.get(), bytes, "{text}");
    }
    for (text, expected) in [
        ("64KiB", "\"64KiB\" is not a rate (write \"64KiB/s\" if you mean per second)"),
        ("x", "\"x\" is not a rate (write bytes per second, as in \"64KiB/s\")"),
        (
            "1MiB/m",
            "\"1MiB/m\" is not a rate per second \
             (write bytes per second, as in \"64KiB/s\")",
        ),
        ("100/s", "\"100/s\" has no unit (write \"100B/s\" if you mean bytes)"),
        ("0/s", "a rate of 0 would allow nothing (the minimum is \"1B/s\")"),
        ("0MiB/s", "a rate of 0 would allow nothing (the minimum is \"1B/s\")"),
        ("1MB/s", "\"MB\" is not a unit of size (write \"1MiB\", which is 1048576 bytes)"),
        ("/s", "\"\" is not a size (write one whole number and one unit, as in \"1MiB\")"),
    ] {
        assert_eq!(error(BytesPerSecond::parse(text)), expected);
    }
}

proptest! {
    #[test]
    fn display_and_parse_round_trip(bytes in 1..=SIZE_MAX, millis in 1..=MILLIS_MAX) {
        let size = ByteSize::new(bytes);
        prop_assert_eq!(ByteSize::parse(&size.to_string()).unwrap(), size);
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&show_duration(duration)).unwrap(), duration);
    }

    #[test]
    fn parsing_never_panics(text in "[0-9a-zA-Z./ ]{0,24}|\\PC{0,8}") {
        let _ = (ByteSize::parse(&text), parse_duration(&text), PerSecond::parse(&text));
        let _ = BytesPerSecond::parse(&text);
    }
}
