//! The request that each command sends.

use super::*;

#[test]
fn read_and_close_commands_send_their_request() {
    let nothing = json!({"code": null, "reason": null});
    let slow = json!({"window_ms": null, "per_second": null, "deadline_ms": null});
    for (words, expected) in [
        (&["status"][..], json!({"ask": "status"})),
        (&["sessions"], json!({"ask": "sessions", "of": which(json!({}))})),
        (
            &["sessions", "--client", "::1", "--route", "chat", "--backend", "b", "--older", "15m"],
            json!({"ask": "sessions", "of": which(json!({
                "client": "::1", "route": "chat", "backend": "b", "older_ms": 900_000,
            }))}),
        ),
        (&["session", "7"], json!({"ask": "session", "session": 7})),
        (
            &["kill", "7", "8"],
            json!({
                "ask": "kill", "of": which(json!({"sessions": [7, 8]})), "all": false,
                "words": nothing,
            }),
        ),
        (
            &["kill", "--all", "--code", "4003", "--reason", "banned"],
            json!({
                "ask": "kill", "of": which(json!({})), "all": true,
                "words": {"code": 4003, "reason": "banned"},
            }),
        ),
        (
            &["drain", "--all"],
            json!({
                "ask": "drain", "of": which(json!({})), "all": true, "pace": slow,
                "words": nothing, "wait": false,
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
                "ask": "drain", "of": which(json!({"backend": "b"})), "all": false,
                "pace": {"window_ms": 30_000, "per_second": 100, "deadline_ms": 60_000},
                "words": {"code": 1001, "reason": "bye"}, "wait": true,
            }),
        ),
    ] {
        asks(words, &expected);
    }
}

#[test]
fn steering_commands_send_their_request() {
    for (words, expected) in [
        (&["undrain", "--all"][..], json!({"ask": "undrain", "place": "all"})),
        (&["undrain", "--route", "r"], json!({"ask": "undrain", "place": {"route": "r"}})),
        (&["undrain", "--backend", "b"], json!({"ask": "undrain", "place": {"backend": "b"}})),
        (
            &["weight", "b", "5"],
            json!({"ask": "weight", "backend": "b", "route": null, "weight": 5}),
        ),
        (
            &["weight", "b", "file", "--route", "r"],
            json!({"ask": "weight", "backend": "b", "route": "r", "weight": null}),
        ),
        (&["tail", "7"], json!({"ask": "tail", "session": 7})),
        (
            &["explain", "wss://h/ws"],
            json!({"ask": "explain", "url": "wss://h/ws", "origin": null, "address": null}),
        ),
        (
            &["explain", "wss://h/ws", "--origin", "https://o", "--address", "2001:db8::1"],
            json!({
                "ask": "explain", "url": "wss://h/ws", "origin": "https://o",
                "address": "2001:db8::1",
            }),
        ),
        (&["reload"], json!({"ask": "reload"})),
        (&["reload", "--wait"], json!({"ask": "reload"})),
        (&["config", "--changed"], json!({"ask": "config"})),
        (&["log-level"], json!({"ask": "log_level", "level": null})),
        (&["log-level", "debug"], json!({"ask": "log_level", "level": "debug"})),
    ] {
        asks(words, &expected);
    }
}

fn asks(words: &[&str], expected: &Value) {
    let words: Vec<&str> = [&["ctl"][..], words].concat();
    assert_eq!(asked(&words), *expected, "{words:?}");
}
