//! Differences between two files in meaning, regardless of how they are written.

use std::sync::Arc;

use super::listing::FULL;
use super::*;
use crate::config::explain::difference::{AffectedTunnels, SettingChange, differences};
use crate::config::settings::Settings;
use crate::control_protocol::response::Change;

/// `section name action (key: before -> after)` of each change.
fn errors(before: &str, after: &str) -> Vec<String> {
    let show = |change: Change| {
        let none = || "none".to_owned();
        let keys: Vec<String> = change
            .keys
            .into_iter()
            .map(|key| {
                let (before, after) = (key.before.unwrap_or_else(none), key.after);
                format!("{}: {before} -> {}", key.key, after.unwrap_or_else(none))
            })
            .collect();
        assert!(!change.effect.is_empty());
        assert_eq!(change.tunnels, 0);
        format!("{} {} {} ({})", change.section, change.name, change.action, keys.join(", "))
    };
    changes(&parse(before), &parse(after)).into_iter().map(show).collect()
}

#[test]
fn equivalent_files_have_no_differences() {
    let same = FULL
        .replace("\"26h\"", "\"1560m\"")
        .replace("\"1500ms\"", "'1500ms' # why")
        .replace("\"3MiB\"", "\"3072KiB\"")
        .replace(
            "\"null\", \"https://chat.example.com:8443\"",
            "\"https://chat.example.com:8443\", \"null\"",
        )
        .replace("\"10.0.0.0/8\", \"192.0.2.7\"", "\"192.0.2.7/32\", \"10.0.0.0/8\"")
        .replace("redact = [\"zebra\", \"apple\"]", "redact = [\"apple\", \"zebra\"]");
    assert_ne!(same, FULL);
    assert_eq!(errors(FULL, &same), [""; 0]);
    // The same tables in another file and in another order.
    let parts: Vec<&str> = FULL.split("\n[[route]]").collect();
    let (second, rest) = parts[2].split_once("\n[server]").unwrap();
    let [first, third] = [parts[1], parts[3]];
    let moved = format!(
        "{}\n[[route]]{second}\n[[route]]{first}\n[server]{rest}\n[[route]]{third}",
        parts[0]
    );
    let moved = Settings::parse(&moved, "other.toml").unwrap();
    assert_eq!(&*moved.routes[0].name, "[2001:db8::7]");
    assert_eq!(changes(&parse(FULL), &moved), []);
    // Moved from the top-level table to the only route.
    let top_level = format!("{PLAIN}[limits]\nidle = \"2h\"\n");
    assert_eq!(errors(&top_level, &format!("{PLAIN}[route.limits]\nidle = \"2h\"\n")), [""; 0]);
}

/// Fragments and age follow the message limit of the table that sets it.
#[test]
fn limits_that_follow_another_change_with_it() {
    let file = |own: &str, top_level: &str| {
        let size = |size: &str| format!("message_from_client = \"{size}\"\n");
        format!("{PLAIN}[route.limits]\n{}[limits]\n{}", size(own), size(top_level))
    };
    assert_eq!(errors(&file("1MiB", "16MiB"), &file("1MiB", "32MiB")), [""; 0]);
    let route = "route chat.example.com changed (route[0].limits.message_from_client: \"1MiB\" -> \
                 \"2MiB\", route[0].limits.fragments_from_client: 1024 -> 2048, \
                 route[0].limits.message_age_from_client: \"2m\" -> \"4m\")";
    assert_eq!(errors(&file("1MiB", "16MiB"), &file("2MiB", "16MiB")), [route]);
    // A value that the top-level table sets itself does not follow.
    let fragments =
        |number: u32| file("1MiB", "16MiB") + &format!("fragments_from_client = {number}\n");
    let limits = "limits  changed (limits.fragments_from_client: 7 -> 8)";
    assert_eq!(errors(&fragments(7), &fragments(8)), [limits]);
}

#[test]
fn differences_name_their_keys() {
    assert_eq!(
        errors(FULL, &FULL.replace("\"26h\"", "\"27h\"").replace("http = false", "http = true")),
        ["route a \"quoted\" \\ name changed (route[0].http: false -> true, \
          route[0].limits.lifetime: \"26h\" -> \"27h\")"]
    );
    assert_eq!(
        errors(FULL, &FULL.replace("weight = 3", "weight = 4").replace("\"b:1\"", "\"c:1\"")),
        [
            "backend a of a \"quoted\" \\ name changed (route[0].backends[0].weight: 3 -> 4)",
            "backend c:1 of [2001:db8::7] added (route[1].backends[0].address: none -> \"c:1\")",
            "backend b:1 of [2001:db8::7] removed (route[1].backends[0].address: \"b:1\" -> none)",
        ]
    );
    assert_eq!(
        errors(
            FULL,
            &FULL
                .replace("name = \"tls\"", "name = \"front\"")
                .replace("\"[::1]:8080\"", "\"[::1]:8081\"")
        ),
        [
            "listener front changed (listener[0].name: \"tls\" -> \"front\")",
            "listener [::1]:8081 added (listener[1].address: none -> \"[::1]:8081\", \
             listener[1].tls: none -> false)",
            "listener [::1]:8080 removed (listener[1].address: \"[::1]:8080\" -> none, \
             listener[1].tls: false -> none)",
        ]
    );
    let other =
        FULL.replace("/etc/a.key", "/etc/b.key").replace("level = \"warn\"", "level = \"info\"");
    assert_eq!(
        errors(FULL, &other),
        [
            "certificate /etc/a.pem changed (certificate[0].key: \"/etc/a.key\" -> \"/etc/b.key\")",
            "log  changed (log.level: \"warn\" -> \"info\")",
        ]
    );
    let renamed = PLAIN.replace("chat.example.com", "talk.example.com");
    let errors = errors(PLAIN, &renamed);
    assert!(
        errors[0].starts_with("route talk.example.com added (route[0].host: none -> "),
        "{errors:?}"
    );
    assert_eq!(
        errors[1],
        "backend 127.0.0.1:9001 of talk.example.com added (route[0].backends[0].address: none -> \
         \"127.0.0.1:9001\")"
    );
    assert!(errors[2].starts_with("route chat.example.com removed ("), "{errors:?}");
    assert!(
        errors[3].starts_with("backend 127.0.0.1:9001 of chat.example.com removed ("),
        "{errors:?}"
    );
    assert_eq!(errors.len(), 4);
}

/// Every key of the file that makes up a new route is shown, in its table or inline.
#[test]
fn added_route_is_shown_completely() {
    let route = "[[route]]\nname = \"new\"\nhost = \"new.example\"\norigins = [\"*\"]\nhttp = false\n\
                 timeouts = { connect = \"3s\" }\n\
                 backends = [{ address = \"a:1\", id = \"one\", weight = 3 }, \"b:1\"]\n\
                 [route.limits]\nidle = \"3h\"\n[route.request_headers]\nremove = [\"x-a\"]\n";
    let after = format!("{PLAIN}{route}");
    let lines = |before: &str, after: &str| {
        let mut keys = Vec::new();
        for change in changes(&parse(before), &parse(after)) {
            keys.extend(change.keys.into_iter().map(|key| key.key));
        }
        keys.sort();
        keys
    };
    let expected = [
        "route[1].backends[0].address",
        "route[1].backends[0].id",
        "route[1].backends[0].weight",
        "route[1].backends[1].address",
        "route[1].host",
        "route[1].http",
        "route[1].limits.idle",
        "route[1].name",
        "route[1].origins",
        "route[1].request_headers.remove",
        "route[1].timeouts.connect",
    ];
    assert_eq!(lines(PLAIN, &after), expected);
    assert_eq!(lines(&after, PLAIN), expected);
    let effects: Vec<String> =
        changes(&parse(&after), &parse(PLAIN)).into_iter().map(|change| change.effect).collect();
    assert!(effects[1].starts_with("removed together with its route"), "{effects:?}");
}

#[test]
fn top_level_limit_is_listed_with_affected_routes() {
    // The first route sets its own idle timeout.
    let after = FULL.replace("idle = \"2h\"", "idle = \"3h\"");
    let found = differences(&parse(FULL), &parse(&after));
    let [SettingChange { change, affected }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((change.section.as_str(), change.keys[0].key.as_str()), ("limits", "limits.idle"));
    let routes = ["[2001:db8::7]", "pool.example.com"].map(Arc::from);
    assert_eq!(*affected, AffectedTunnels::Routes(routes.into()));
    // If every route sets its own value, the top-level one has no effect.
    let own =
        |idle: &str| format!("{PLAIN}[route.limits]\nidle = \"2h\"\n[limits]\nidle = \"{idle}\"\n");
    assert_eq!(errors(&own("3h"), &own("4h")), [""; 0]);
    // A different value set in a route is a change of the route.
    let before = format!("{PLAIN}[limits]\nidle = \"2h\"\n");
    let after = format!("{PLAIN}[route.limits]\nidle = \"5h\"\n");
    assert_eq!(
        errors(&before, &after),
        ["route chat.example.com changed (route[0].limits.idle: \"2h\" -> \"5h\")"]
    );
}

#[test]
fn effect_on_tunnels_is_described() {
    let effect = |old: &str, new: &str| {
        let found = changes(&parse(FULL), &parse(&FULL.replace(old, new)));
        found.into_iter().map(|change| change.effect).collect::<Vec<_>>().join("; ")
    };
    assert!(effect("workers = 3", "workers = 4").contains("requires a restart"));
    assert!(effect("socket = \"/run/x/", "socket = \"/run/y/").contains("requires a restart"));
    assert!(effect("\"26h\"", "\"27h\"").contains("established tunnels keep the old value"));
    assert!(
        effect("deadline = \"40s\"", "deadline = \"50s\"").contains("applies to the next drain")
    );
    let gone = effect(", \"[2001:db8::1]:9002\"", "");
    assert!(gone.contains("still open after 10m are closed over 20s"), "{gone}");
    let keep = changes(
        &parse(&PLAIN.replace("\"127.0.0.1:9001\"", "\"a:1\", \"b:1\"")),
        &parse(&PLAIN.replace("\"127.0.0.1:9001\"", "\"b:1\"")),
    );
    assert!(keep[0].effect.contains("its tunnels stay open"), "{keep:?}");
}

#[test]
fn many_routes_are_compared_quickly() {
    let many = |idle: &str| {
        let route = |n: usize| {
            format!("[[route]]\nhost = \"h{n}.x\"\norigins = [\"*\"]\nbackends = [\"a:1\"]\n")
        };
        let routes: String = (0..5_000).map(route).collect();
        parse(&format!("{PLAIN}{routes}[limits]\nidle = \"{idle}\"\n"))
    };
    let (before, after) = (many("2h"), many("3h"));
    let found = differences(&before, &after);
    assert_eq!(found.len(), 1);
    assert!(matches!(&found[0].affected, AffectedTunnels::Routes(routes) if routes.len() == 5_001));
}
