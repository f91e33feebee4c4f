//! The request that each command sends.

use super::*;

#[test]
fn read_and_close_commands_send_their_request() {
    let nothing = json!({"code": null, "reason": null});
    let slow = json!({"window_ms": null, "per_second": null, "deadline_ms": null});
    for (args, expected) in [
        (&["status"][..], json!({"command": "status"})),
        (&["sessions"], json!({"command": "sessions", "selection": selection(json!({}))})),
        (
            &["sessions", "--client", "::1", "--route", "chat", "--backend", "b", "--older", "15m"],
            json!({"command": "sessions", "selection": selection(json!({
                "client": "::1", "route": "chat", "backend": "b", "older_ms": 900_000,
            }))}),
        ),
        (&["session", "7"], json!({"command": "session", "session": 7})),
        (
            &["kill", "7", "8"],
            json!({
                "command": "kill", "selection": selection(json!({"sessions": [7, 8]})), "all": false,
                "close": nothing,
            }),
        ),
        (
            &["kill", "--all", "--code", "4003", "--reason", "banned"],
            json!({
                "command": "kill", "selection": selection(json!({})), "all": true,
                "close": {"code": 4003, "reason": "banned"},
            }),
        ),
        (
            &["drain", "--all"],
            json!({
                "command": "drain", "selection": selection(json!({})), "all": true, "pacing": slow,
                "close": nothing, "wait": false,
            }),
        ),
        (
            &[
                "drain",
                "--backend",
                "b",
                "--window",
                "30s",
                "--rate",
                "100/s",
                "--deadline",
                "1m",
                "--code",
                "1001",
                "--reason",
                "bye",
                "--wait",
            ],
            json!({
                "command": "drain", "selection": selection(json!({"backend": "b"})), "all": false,
                "pacing": {"window_ms": 30_000, "per_second": 100, "deadline_ms": 60_000},
                "close": {"code": 1001, "reason": "bye"}, "wait": true,
            }),
        ),
    ] {
        assert_request(args, &expected);
    }
}

#[test]
fn steering_commands_send_their_request() {
    for (args, expected) in [
        (&["undrain", "--all"][..], json!({"command": "undrain", "scope": "all"})),
        (&["undrain", "--route", "r"], json!({"command": "undrain", "scope": {"route": "r"}})),
        (&["undrain", "--backend", "b"], json!({"command": "undrain", "scope": {"backend": "b"}})),
        (
            &["weight", "b", "5"],
            json!({"command": "weight", "backend": "b", "route": null, "weight": 5}),
        ),
        (
            &["weight", "b", "file", "--route", "r"],
            json!({"command": "weight", "backend": "b", "route": "r", "weight": null}),
        ),
        (
            &["rebalance"],
            json!({"command": "rebalance", "pool": null, "per_second": null, "dry_run": false}),
        ),
        (
            &["rebalance", "--pool", "p", "--rate", "50/s", "--dry-run"],
            json!({"command": "rebalance", "pool": "p", "per_second": 50, "dry_run": true}),
        ),
        (&["rebalance", "--stop"], json!({"command": "stop_rebalance", "pool": null})),
        (&["maintenance", "r", "on"], json!({"command": "maintenance", "route": "r", "on": true})),
        (
            &["maintenance", "r", "off"],
            json!({"command": "maintenance", "route": "r", "on": false}),
        ),
        (&["tail", "7"], json!({"command": "tail", "session": 7})),
        (
            &["explain", "wss://h/ws"],
            json!({"command": "explain", "url": "wss://h/ws", "origin": null, "address": null, "headers": []}),
        ),
        (
            &[
                "explain",
                "wss://h/ws",
                "--origin",
                "https://o",
                "--address",
                "2001:db8::1",
                "--header",
                "A: b",
            ],
            json!({
                "command": "explain", "url": "wss://h/ws", "origin": "https://o",
                "address": "2001:db8::1", "headers": ["A: b"],
            }),
        ),
        (&["reload"], json!({"command": "reload"})),
        (&["reload", "--wait"], json!({"command": "reload"})),
        (&["config", "--changed"], json!({"command": "config"})),
        (&["log-level"], json!({"command": "log_level", "level": null})),
        (&["log-level", "debug"], json!({"command": "log_level", "level": "debug"})),
    ] {
        assert_request(args, &expected);
    }
}

fn assert_request(args: &[&str], expected: &Value) {
    let args: Vec<&str> = [&["ctl"][..], args].concat();
    assert_eq!(sent_request(&args), *expected, "{args:?}");
}
