//! Keys of top-level tables that a route overrides, and limits that follow the size of messages.

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
