//! Keys of top-level tables that a route overrides, limits that follow the size of messages, and limits on heads.

use std::num::NonZeroU64;

use ws::{AgeLimit, Limit, LimitAction};

use super::*;
use crate::config::settings::RouteSettings;

fn routes(own: &str, top_level: &str) -> Vec<RouteSettings> {
    let second = "[[route]]\nhost = \"b\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:2\"]\n";
    parse(&format!("{PLAIN}{own}\n{second}{top_level}\n")).routes
}

#[test]
fn route_timeouts_and_drain_code_override_top_level() {
    let routes = routes(
        "[route.timeouts]\nidle = \"5m\"\n[route.drain]\ncode = 1001",
        "[timeouts]\nidle = \"3m\"\nconnect = \"1s\"\n[drain]\nreason = \"later\"",
    );
    let seconds = |route: &RouteSettings| {
        let timeouts = &route.timeouts;
        [timeouts.connect, timeouts.response_header, timeouts.idle].map(|time| time.as_secs())
    };
    assert_eq!([seconds(&routes[0]), seconds(&routes[1])], [[1, 60, 300], [1, 60, 180]]);
    let close = |route: &RouteSettings| {
        (route.policy.drain_code.get(), route.policy.drain_reason.to_string())
    };
    assert_eq!(close(&routes[0]), (1001, "later".to_owned()));
    assert_eq!(close(&routes[1]), (1012, "later".to_owned()));
}

#[test]
fn least_rate_of_bodies_may_differ_by_route() {
    let rates = |own: &str, top_level: &str| {
        let table = |name: &str, line: &str| format!("[{name}]\nmin_body_rate = \"{line}\"");
        let routes = routes(&table("route.timeouts", own), &table("timeouts", top_level));
        [0, 1].map(|index| routes[index].timeouts.min_body_rate.map(NonZeroU64::get))
    };
    assert_eq!(rates("off", "2KiB/s"), [None, Some(2048)]);
    assert_eq!(rates("1B/s", "off"), [Some(1), None]);
    assert_eq!(routes("", "")[0].timeouts.min_body_rate.map(NonZeroU64::get), Some(500));
}

#[test]
fn connection_timeouts_are_not_keys_of_a_route() {
    let text = format!("{PLAIN}[route.timeouts]\ntls = \"5s\"\n");
    let shown = Settings::parse(&text, "proxy.toml").unwrap_err().to_string();
    assert!(shown.contains("route[0].timeouts.tls: unknown key"), "{shown}");
    assert!(shown.contains("in [timeouts]"), "{shown}");
}

#[test]
fn fragments_and_age_follow_the_message_limit() {
    let limits = |own: &str, top_level: &str| {
        let limits = routes(own, top_level)[0].policy.from_client;
        let number = |limit: Option<Limit>| limit.map(|limit| limit.max);
        let age = |limit: Option<AgeLimit>| limit.map(|limit| limit.max.as_secs());
        (number(limits.message), number(limits.fragments), age(limits.message_age))
    };
    let of = |size: &str| format!("[route.limits]\nmessage_from_client = {size}");
    assert_eq!(limits("", ""), (Some(16 << 20), Some(16_384), Some(1920)));
    assert_eq!(limits(&of("\"1KiB\""), ""), (Some(1024), Some(1024), Some(120)));
    assert_eq!(limits(&of("\"64MiB\""), ""), (Some(64 << 20), Some(65_536), Some(7680)));
    assert_eq!(limits(&of("\"off\""), ""), (None, None, None));
    let report = of("{ max = \"1MiB\", action = \"report\" }");
    assert_eq!(limits(&report, ""), (Some(1 << 20), Some(1024), Some(120)));
    let derived = routes(&report, "")[0].policy.from_client;
    let actions = [derived.fragments.unwrap().action, derived.message_age.unwrap().action];
    assert_eq!(actions, [LimitAction::Report; 2]);
    // What is set stays.
    let set = "[limits]\nfragments_from_client = 7\nmessage_from_client = \"2MiB\"";
    assert_eq!(limits("", set), (Some(2 << 20), Some(7), Some(240)));
    assert_eq!(limits(&of("\"off\""), set), (None, Some(7), None));
}

// Requirements: CF05.
#[test]
fn head_limits_have_a_range() {
    let route =
        &parse(&format!("{PLAIN}response_head_size = \"8KiB\"\nresponse_head_fields = 1000\n"));
    let (large, default) = (route.routes[0].response_head, route.listeners[0].request_head);
    assert_eq!(
        [large.bytes, large.fields, default.bytes, default.fields],
        [8192, 1000, 32_768, 100]
    );
    let size_help = "(write a size from \"8KiB\" to \"64KiB\")";
    let fields_help = "(write a number from 1 to 1000)";
    for (line, problem) in [
        ("size = \"8191B\"", format!("8191B is out of range for a head {size_help}")),
        ("size = \"1MiB\"", format!("1MiB is out of range for a head {size_help}")),
        ("size = \"0B\"", format!("a size of 0 would allow nothing {size_help}")),
        ("size = true", format!("expected a size, found true {size_help}")),
        ("fields = 0", format!("0 is out of range for the fields of a head {fields_help}")),
        ("fields = 1001", format!("1001 is out of range for the fields of a head {fields_help}")),
    ] {
        let key = line.split(' ').next().unwrap();
        assert_eq!(
            errors_below(&format!("response_head_{line}")),
            [format!("route[0].response_head_{key}: {problem}")]
        );
        let request = format!("address = \"0.0.0.0:443\"\nrequest_head_{line}");
        assert_eq!(
            errors_replacing("address = \"0.0.0.0:443\"", &request),
            [format!("listener[0].request_head_{key}: {problem}")]
        );
    }
}
