//! Limits, heartbeats and other parts of the session policy.

use ws::{
    AgeLimit, HeartbeatPolicy, Limit, LimitAction, LimitKind, PingProof, RateLimit, SessionPolicy,
    Side, Strictness,
};

use super::*;

fn policy(lines: &str) -> SessionPolicy {
    SessionPolicy::clone(&parse(&format!("{PLAIN}{lines}\n")).routes[0].policy)
}

/// The parsed limit of this kind and side if its key has this value.
fn shown(rule: LimitKind, side: Side, value: &str) -> String {
    let key = rule.key(side).strip_prefix("limits.").unwrap();
    let policy = policy(&format!("[limits]\n{key} = {value}"));
    let limits = policy.limits(side);
    match rule {
        LimitKind::Message | LimitKind::Inflated => format!("{:?}", limits.message),
        LimitKind::Frame => format!("{:?}", limits.frame),
        LimitKind::Fragments => format!("{:?}", limits.fragments),
        LimitKind::MessageAge => format!("{:?}", limits.message_age),
        LimitKind::Messages => format!("{:?}", limits.messages),
        LimitKind::Bytes => format!("{:?}", limits.bytes),
        LimitKind::ControlFrames => format!("{:?}", limits.control_frames),
    }
}

#[test]
fn missing_keys_have_the_default_policy() {
    assert_eq!(policy(""), SessionPolicy::default());
}

#[test]
fn every_limit_has_short_form_table_and_off() {
    let cap = |max, action| Some(Limit { max, action });
    let age = |max, action| Some(AgeLimit { max: Duration::from_secs(max), action });
    let rate = |rate: u64, burst: u64, action| {
        Some(RateLimit { burst: burst.try_into().unwrap(), ..RateLimit::new(rate, action) })
    };
    use LimitAction::{Close, Delay, Report};
    for side in Side::BOTH {
        for rule in [LimitKind::Message, LimitKind::Frame] {
            let shown = |value| shown(rule, side, value);
            assert_eq!(shown("\"2KiB\""), format!("{:?}", cap(2048, Close)));
            assert_eq!(shown("{ max = \"2KiB\" }"), format!("{:?}", cap(2048, Close)));
            let report = "{ max = \"2KiB\", action = \"report\" }";
            assert_eq!(shown(report), format!("{:?}", cap(2048, Report)));
        }
        let fragments = |value| shown(LimitKind::Fragments, side, value);
        assert_eq!(fragments("7"), format!("{:?}", cap(7, Close)));
        let report = "{ max = 7, action = \"report\" }";
        assert_eq!(fragments(report), format!("{:?}", cap(7, Report)));
        let message_age = |value| shown(LimitKind::MessageAge, side, value);
        assert_eq!(message_age("\"7s\""), format!("{:?}", age(7, Close)));
        let report = "{ max = \"7s\", action = \"report\" }";
        assert_eq!(message_age(report), format!("{:?}", age(7, Report)));

        for (rule, usual) in [(LimitKind::Messages, Delay), (LimitKind::ControlFrames, Close)] {
            let shown = |value| shown(rule, side, value);
            assert_eq!(shown("\"7/s\""), format!("{:?}", rate(7, 14, usual)));
            assert_eq!(shown("{ rate = \"7/s\" }"), format!("{:?}", rate(7, 14, usual)));
            let all = "{ rate = \"7/s\", burst = 9, action = \"report\" }";
            assert_eq!(shown(all), format!("{:?}", rate(7, 9, Report)));
        }
        let bytes = |value| shown(LimitKind::Bytes, side, value);
        assert_eq!(bytes("\"1KiB/s\""), format!("{:?}", rate(1024, 2048, Delay)));
        let all = "{ rate = \"1KiB/s\", burst = \"1B\", action = \"close\" }";
        assert_eq!(bytes(all), format!("{:?}", rate(1024, 1, Close)));

        for rule in LimitKind::ALL {
            assert_eq!(shown(rule, side, "\"off\""), "None");
        }
    }
}

#[test]
fn limit_may_be_a_table_with_a_header() {
    let header = "[limits.messages_from_client]\nrate = \"5/s\"\naction = \"close\"";
    assert_eq!(policy(header).from_client.messages, Some(RateLimit::new(5, LimitAction::Close)));
}

#[test]
fn route_overrides_a_limit_as_a_whole() {
    let settings = parse(&format!(
        "{PLAIN}strict = \"report\"\n\
         [route.limits]\nmessage_from_client = {{ max = \"2KiB\" }}\ncontrol_frames_from_backend = \"off\"\n\
         lifetime = \"24h\"\nmin_write_rate = \"off\"\n[route.heartbeat]\nbackend_interval = \"20s\"\n\
         [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n\
         [limits]\nmessage_from_client = {{ max = \"1KiB\", action = \"report\" }}\n\
         bytes_from_backend = \"1MiB/s\"\nmin_write_rate = \"2KiB/s\"\n\
         [heartbeat]\nbackend_timeout = \"4s\"\nproof = \"pong\"\n"
    ));
    let (own, top_level) = (&settings.routes[0].policy, &settings.routes[1].policy);
    assert_eq!(own.from_client.message, Some(Limit::close(2048)), "not the top-level action");
    assert_eq!(
        top_level.from_client.message,
        Some(Limit { max: 1024, action: LimitAction::Report })
    );
    assert_eq!(own.from_backend.control_frames, None);
    assert_eq!(
        top_level.from_backend.control_frames,
        SessionPolicy::default().from_backend.control_frames
    );
    let rate = Some(RateLimit::new(1 << 20, LimitAction::Delay));
    assert_eq!((own.from_backend.bytes, top_level.from_backend.bytes), (rate, rate));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!((own.lifetime, top_level.lifetime), (Some(day), None));
    let trickle = |policy: &SessionPolicy| policy.min_write_rate.map(std::num::NonZeroU64::get);
    assert_eq!((trickle(own), trickle(top_level)), (None, Some(2048)));
    let secs = Duration::from_secs;
    let pings =
        Some(HeartbeatPolicy { interval: secs(20), timeout: secs(4), proof: PingProof::Pong });
    assert_eq!((own.heartbeat_backend, top_level.heartbeat_backend), (pings, None));
    assert_eq!((own.strict, top_level.strict), (Strictness::Report, Strictness::Enforce));
}

#[test]
fn backend_timeout_defaults_to_the_client_timeout() {
    let heartbeat = policy("[heartbeat]\nbackend_interval = \"20s\"").heartbeat_backend.unwrap();
    assert_eq!(heartbeat.timeout, SessionPolicy::default().heartbeat_client.unwrap().timeout);
}

// Requirements: CF05.
#[test]
fn error_in_limit_table_points_at_its_line() {
    assert_eq!(
        rendered(&format!(
            "{PLAIN}[limits]\nmessage_from_client = {{ max = \"1MB\", action = \"close\" }}\n"
        )),
        "proxy.toml:13:31: limits.message_from_client.max: \"MB\" is not a unit of size\n \
         13 | message_from_client = { max = \"1MB\", action = \"close\" }\n    \
            |                               ^^^^^\n    \
            help: write \"1MiB\", which is 1048576 bytes\n\nproxy.toml: 1 error"
    );
    // A limit set in the route is reported there.
    let errors = errors_below("[route.limits]\nframe_from_backend = { max = 5 }");
    assert_eq!(
        errors,
        ["route[0].limits.frame_from_backend.max: 5 has no unit (write \"5B\" if you mean bytes)"]
    );
}

// Requirements: CF05.
#[test]
fn limit_table_accepts_only_its_own_keys() {
    let waiting = "\"delay\" applies to rates only: a delay does not make a message smaller or newer \
                   (write \"close\" or \"report\")";
    for (line, key, problem) in [
        ("message_from_client = { max = \"1MiB\", action = \"delay\" }", "action", waiting),
        ("fragments_from_client = { max = 5, action = \"delay\" }", "action", waiting),
        ("message_age_from_client = { max = \"5s\", action = \"delay\" }", "action", waiting),
        (
            "frame_from_client = { max = \"1MiB\", action = \"drop\" }",
            "action",
            "expected \"close\" or \"report\", found \"drop\"",
        ),
        (
            "bytes_from_client = { rate = \"1MiB/s\", action = \"dealy\" }",
            "action",
            "expected \"close\", \"delay\" or \"report\", found \"dealy\" (did you mean \"delay\"?)",
        ),
        (
            "message_from_client = { action = \"report\" }",
            "max",
            "this key is missing (write the maximum, or \"off\" instead of the table)",
        ),
        (
            "bytes_from_client = {}",
            "rate",
            "this key is missing (write the rate per second, or \"off\" instead of the table)",
        ),
        (
            "frame_from_client = { max = \"off\" }",
            "max",
            "\"off\" is not allowed inside a table \
             (to turn the limit off, write \"off\" in place of the whole table)",
        ),
        (
            "messages_from_client = { rate = \"off\" }",
            "rate",
            "\"off\" is not allowed inside a table \
             (to turn the limit off, write \"off\" in place of the whole table)",
        ),
        (
            "message_from_client = { maximum = \"1MiB\" }",
            "maximum",
            "unknown key (did you mean \"max\"?)",
        ),
        (
            "message_from_client = { max = \"1MiB\", burst = 5 }",
            "burst",
            "unknown key (the keys here are max, action)",
        ),
        (
            "messages_from_client = { rate = \"5/s\", max = 5 }",
            "max",
            "unknown key (the keys here are rate, burst, action)",
        ),
        (
            "message_from_client = { max = 1MiB }",
            "max",
            "text must be in double quotes (write \"1MiB\")",
        ),
        (
            "bytes_from_client = { rate = \"1MiB/s\", burst = 5 }",
            "burst",
            "5 has no unit (write \"5B\" if you mean bytes)",
        ),
    ] {
        let (limit, _) = line.split_once(' ').unwrap();
        let errors = errors_below(&format!("[limits]\n{line}"));
        assert_eq!(errors, [format!("limits.{limit}.{key}: {problem}")]);
    }
}

// Requirements: CF05.
#[test]
fn rejects_values_that_are_not_limits() {
    assert_eq!(
        errors_below(
            "[limits]\nfragments_from_client = \"1024\"\nmessages_from_client = 50\n\
             bytes_from_client = \"64KiB\"\ncontrol_frames_from_client = \"50/m\"\nlifetime = \"1 d\"\n\
             min_write_rate = \"100/s\"\nframe_from_client = [\"1MiB\"]\nbytes_from_backend = 1024\n\
             message_age_from_client = false"
        ),
        [
            "limits.fragments_from_client: expected a whole number, found \"1024\" \
             (write 1024, without quotes)",
            "limits.messages_from_client: 50 has no unit (write \"50/s\" if you mean per second)",
            "limits.bytes_from_client: \"64KiB\" is not a rate \
             (write \"64KiB/s\" if you mean per second)",
            "limits.control_frames_from_client: \"50/m\" is not a rate per second \
             (write a number per second, as in \"20/s\")",
            "limits.lifetime: \" d\" is not a unit of time (write \"1d\")",
            "limits.min_write_rate: \"100/s\" has no unit (write \"100B/s\" if you mean bytes)",
            "limits.frame_from_client: expected a size, found a list (write one such as \"1MiB\")",
            "limits.bytes_from_backend: 1024 has no unit \
             (write \"1KiB/s\" if you mean bytes per second)",
            "limits.message_age_from_client: expected a limit, found false \
             (write \"off\" to turn it off)",
        ]
    );
}

// Requirements: CF06.
#[test]
fn zero_rate_never_means_unlimited() {
    let none = "(write \"off\" for no limit)";
    assert_eq!(
        errors_below(
            "[limits]\nfragments_from_client = 0\nmessages_from_client = \"0/s\"\n\
             bytes_from_client = \"0KiB/s\"\nbytes_from_backend = 0\n\
             control_frames_from_client = { rate = \"0/s\" }\n\
             control_frames_from_backend = { rate = \"1/s\", burst = 0 }\n\
             messages_from_backend = { rate = 0, burst = 0 }\n\
             min_write_rate = \"0/s\"\nframe_from_client = { max = \"0B\" }"
        ),
        [
            format!("limits.fragments_from_client: 0 would allow none {none}"),
            format!("limits.messages_from_client: a rate of 0 would allow nothing {none}"),
            format!("limits.bytes_from_client: a rate of 0 would allow nothing {none}"),
            format!("limits.bytes_from_backend: a rate of 0 would allow nothing {none}"),
            "limits.control_frames_from_client.rate: a rate of 0 would allow nothing \
             (the minimum is \"1/s\")"
                .to_owned(),
            "limits.control_frames_from_backend.burst: 0 would allow none (the minimum is 1)"
                .to_owned(),
            "limits.messages_from_backend.rate: a rate of 0 would allow nothing \
             (the minimum is \"1/s\")"
                .to_owned(),
            "limits.messages_from_backend.burst: 0 would allow none (the minimum is 1)".to_owned(),
            format!("limits.min_write_rate: a rate of 0 would allow nothing {none}"),
            "limits.frame_from_client.max: a size of 0 would allow nothing \
             (the minimum is \"1B\")"
                .to_owned(),
        ]
    );
}

// Requirements: CF12.
#[test]
fn frame_limit_must_not_exceed_message_limit() {
    assert_eq!(
        errors_below(
            "[limits]\nmessage_from_client = \"1MiB\"\n\
             frame_from_client = { max = \"2MiB\", action = \"report\" }"
        ),
        ["limits.frame_from_client.max: limits.frame_from_client = 2MiB is more than \
          limits.message_from_client = 1MiB (no frame is larger than its message: \
          write at most \"1MiB\", or remove one of them)"]
    );
    let own = "[route.limits]\nmessage_from_backend = \"1KiB\"\nframe_from_backend = \"2KiB\"";
    let errors = errors_below(own);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("route[0].limits.frame_from_backend: "), "{errors:?}");
    // Invalid keys are excluded from the checks.
    let invalid = "frame_from_client = \"2KiB\"\n\
                  message_from_client = { max = \"1KiB\", action = \"delay\" }";
    assert_eq!(errors_below(&format!("[limits]\n{invalid}")).len(), 1);
    for valid in [
        // Defaults and top-level values that a route overrides do not count.
        "[limits]\nframe_from_client = \"2MiB\"",
        "[limits]\nframe_from_client = \"2KiB\"\n[route.limits]\nmessage_from_client = \"1KiB\"",
        "[limits]\nframe_from_client = \"1KiB\"\nmessage_from_client = \"1KiB\"",
        "[limits]\nframe_from_client = \"2KiB\"\nmessage_from_client = \"off\"",
        // A message limit that only reports does not bound the frames.
        "[limits]\nframe_from_client = \"2KiB\"\n\
         message_from_client = { max = \"1KiB\", action = \"report\" }",
    ] {
        policy(valid);
    }
}

// Requirements: CF12.
#[test]
fn heartbeat_must_fit_into_lifetime_and_idle() {
    let help = "before the tunnel reaches its lifetime: \
                set limits.lifetime to more than 40s or \"off\", or set heartbeat.interval to \"off\"";
    assert_eq!(
        errors_below("[limits]\nlifetime = \"40s\""),
        [format!(
            "limits.lifetime: limits.lifetime = 40s is not longer than heartbeat.interval + \
             heartbeat.timeout = 40s (a peer that stopped responding must be detected {help})"
        )]
    );
    assert_eq!(
        errors_below(
            "[limits]\nlifetime = \"30m\"\nidle = \"20m\"\n[heartbeat]\nbackend_interval = \"25m\""
        ),
        ["limits.idle: limits.idle = 1200s is not longer than heartbeat.backend_interval + \
          heartbeat.backend_timeout = 1510s (a peer that stopped responding must be detected before \
          the tunnel counts as idle: set limits.idle to more than 1510s or \"off\", or set \
          heartbeat.backend_interval to \"off\")"]
    );
    // On a route, reported at the key that the route sets.
    let errors = errors_below("[route.heartbeat]\nbackend_interval = \"2h\"");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("route[0].heartbeat.backend_interval: "), "{errors:?}");
    policy("[limits]\nlifetime = \"41s\"");
    policy("[limits]\nlifetime = \"1s\"\n[heartbeat]\ninterval = \"off\"");
    assert_eq!(errors_below("[limits]\nlifetime = 5").len(), 1, "an invalid key is in no rule");
}

// Requirements: CF12.
#[test]
fn backend_timeout_requires_backend_interval() {
    let errors = |lines: &str| errors_below(&format!("{lines}\nbackend_timeout = \"5s\""));
    let problem = "backends are not pinged, so there is no pong to wait for \
                 (set the interval: backend_interval = \"30s\")";
    assert_eq!(errors("[heartbeat]"), [format!("heartbeat.backend_timeout: {problem}")]);
    let own = format!("route[0].heartbeat.backend_timeout: {problem}");
    assert_eq!(errors("[route.heartbeat]"), [own]);
    for valid in [
        "[heartbeat]\nbackend_timeout = \"5s\"\n[route.heartbeat]\nbackend_interval = \"20s\"",
        "[heartbeat]\nbackend_interval = \"20s\"\n[route.heartbeat]\nbackend_timeout = \"5s\"",
        "[heartbeat]\nbackend_interval = \"off\"\nbackend_timeout = \"5s\"",
    ] {
        policy(valid);
    }
}
