//! The fields of each record.

use hyper::StatusCode;
use serde_json::{Value, json};
use ws::{
    CloseCodes, LimitKind, PerSide, ProtocolError, ReadDelays, Rtt, Side, SideSummary,
    TerminationReason,
};

use super::*;
use crate::config::settings::LogFormat;
use crate::reject::OriginMismatch;
use crate::reject::invalid_head::InvalidHead;
use crate::telemetry::fixtures;

const SHOWN: RequestFields<'_> = RequestFields {
    host: "a.example",
    target: "/ws?token=[redacted]",
    user_agent: Some("Browser/1.0 (X11)"),
    request_id: Some("4e6a"),
    traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    subprotocol: Some("chat"),
    forwarded_invalid: None,
    would_reject: None,
    dropped_headers: None,
};

fn whole(format: LogFormat, fill: impl FnOnce(&mut LogLine)) -> String {
    let mut line = LogLine::new(format);
    fill(&mut line);
    String::from_utf8(line.finish()).unwrap()
}

fn fields(fill: impl FnOnce(&mut LogLine)) -> Value {
    serde_json::from_str(&whole(LogFormat::Json, fill)).unwrap()
}

fn start<'a>(client: &'a ClientInfo, fields: RequestFields<'a>) -> SessionStart<'a> {
    SessionStart {
        client,
        session: 7,
        route: "chat",
        backend: "127.0.0.1:9001",
        fields,
        backend_handshake: Duration::from_millis(3),
        generation: 2,
    }
}

fn summary(stats: Stats) -> Summary {
    let rtt = |micros| Duration::from_micros(micros);
    Summary {
        reason: TerminationReason::LimitExceeded(Side::Client, LimitKind::Message),
        value: Some("1MiB".into()),
        size: Some(40 << 20),
        stats,
        close_codes: CloseCodes { to_client: Some(1009), to_backend: Some(1001) },
        sides: PerSide {
            client: SideSummary {
                rtt: Some(Rtt { last: rtt(12_345), max: rtt(1_000_007), answers: 2 }),
                ..SideSummary::default()
            },
            backend: SideSummary {
                delays: ReadDelays { time: rtt(2500), ..ReadDelays::default() },
                ..SideSummary::default()
            },
        },
    }
}

#[test]
fn end_record_contains_every_field() {
    let flow = |n| DirectionStats { bytes: n, messages: n + 1, compressed: n + 2, largest: n + 3 };
    let summary = summary(Stats { up: flow(10), down: flow(20) });
    let client = fixtures::client();
    let (start, age) = (start(&client, SHOWN), Duration::from_millis(61_000));
    let ended = SessionEnd { start, summary: &summary, age };
    let expected = json!({
        "session": 7, "client": "203.0.113.7:5000", "client_key": "203.0.113.7",
        "listener": "main", "tls_version": "1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256",
        "sni": "a.example", "route": "chat", "backend": "127.0.0.1:9001",
        "host": "a.example", "target": "/ws?token=[redacted]",
        "user_agent": "Browser/1.0 (X11)", "request_id": "4e6a",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "subprotocol": "chat", "protocol": "http/1.1", "backend_handshake_ms": 3, "generation": 2,
        "stage": "tunnel", "end": "message_too_big", "by": "client",
        "key": "limits.message_from_client", "value": "1MiB", "size": 41_943_040,
        "close_client": 1009, "close_backend": 1001,
        "up_bytes": 10, "down_bytes": 20, "up_messages": 11, "down_messages": 21,
        "up_compressed": 12, "down_compressed": 22, "up_largest": 13, "down_largest": 23,
        "client_rtt_ms": 12.345, "client_rtt_max_ms": 1000.007, "delayed_backend_ms": 2, "age_ms": 61_000,
    });
    assert_eq!(fields(|line| write_end(line, &ended)), expected);
    let text = whole(LogFormat::Text, |line| write_end(line, &ended));
    assert!(text.starts_with("session=7 client=203.0.113.7:5000 client_key="), "{text}");
    assert!(text.contains(" target=\"/ws?token=[redacted]\" "), "{text}");
    assert!(text.contains(" user_agent=\"Browser/1.0 (X11)\" "), "{text}");
    assert!(text.contains(" client_rtt_ms=12.345 client_rtt_max_ms=1000.007 "), "{text}");
    assert!(text.contains(" value=1MiB size=41943040 close_client=1009 "), "{text}");
}

#[test]
fn absent_values_have_no_key() {
    let mut client = fixtures::client();
    client.tls = None;
    let bare = RequestFields { host: "a", target: "/", ..RequestFields::default() };
    let started = fields(|line| write_start(line, &start(&client, bare)));
    let keys: Vec<&str> = started.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["session", "client", "client_key", "listener", "route", "backend"].to_vec();
    expected.extend(["host", "target", "protocol", "backend_handshake_ms", "generation"]);
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn violations_are_listed_once() {
    let violations = [
        Violation::LimitExceeded(LimitKind::Message),
        Violation::LimitExceeded(LimitKind::ControlFrames),
        Violation::ProtocolError(ProtocolError::CloseLength),
        Violation::ProtocolError(ProtocolError::CloseCode),
    ];
    let listed = labels(violations.into_iter());
    assert_eq!(listed, ["message_too_big", "control_rate", "ws_close"]);
    // No combination of violations lists a name twice.
    let mut all = labels(Violation::all());
    let before = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), before);
}

#[test]
fn drop_and_reject_records_name_client_and_reason() {
    let client = fixtures::client();
    let detail = "bad \u{1b}[31m\nheader".into();
    let status = Some(StatusCode::BAD_REQUEST);
    let reason = DropReason::HeadInvalid(InvalidHead { detail, status, ..Default::default() });
    let age = Duration::from_millis(5);
    let dropped = DroppedConnection {
        client: &client,
        reason: &reason,
        host: None,
        target: Some("/ws"),
        deciding: DecidingSetting::default(),
        age,
    };
    let line = fields(|line| write_drop(line, &dropped));
    assert_eq!((&line["status"], &line["target"]), (&400.into(), &"/ws".into()));
    assert_eq!(line.get("host"), None);
    assert_eq!(line["detail"], "bad \\u{1b}[31m\\u{a}header");
    assert_eq!((&line["stage"], &line["end"]), (&"head".into(), &"head_invalid".into()));
    assert_eq!(line["sni"], "a.example");
    let rejected = RejectedRequest {
        client: &client,
        reason: &RejectReason::Origin(OriginMismatch::NotListed),
        detail: Some("origin x"),
        route: Some("chat"),
        backend: None,
        fields: RequestFields { subprotocol: None, ..SHOWN },
        origin: Some("https://evil.example"),
        deciding: DecidingSetting { key: Some("route.origins"), value: None },
        progress: None,
        is_logged: false,
        age,
        generation: 1,
    };
    let line = fields(|line| write_reject(line, &rejected));
    assert_eq!((&line["status"], &line["end"]), (&403.into(), &"origin".into()));
    assert_eq!(line["origin"], "https://evil.example");
    assert_eq!(line["detail"], "origin x");
    for (key, value) in [
        ("user_agent", SHOWN.user_agent),
        ("request_id", SHOWN.request_id),
        ("traceparent", SHOWN.traceparent),
    ] {
        assert_eq!(line[key].as_str(), value, "{line}");
    }
    assert!(line.get("backend").is_none() && line.get("value").is_none(), "{line}");
}
