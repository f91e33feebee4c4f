//! What the records say.

use serde_json::{Value, json};
use ws::{LimitKind, ProtocolError, Side};

use super::*;
use crate::config::settings::LogFormat;
use crate::telemetry::fixtures::visitor;

const SHOWN: RequestFields<'_> = RequestFields {
    host: "a.example",
    target: "/ws?token=[redacted]",
    user_agent: Some("Browser/1.0 (X11)"),
    request_id: Some("4e6a"),
    traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    subprotocol: Some("chat"),
};

fn whole(format: LogFormat, fill: impl FnOnce(&mut LogLine)) -> String {
    let mut line = LogLine::begin(format);
    fill(&mut line);
    String::from_utf8(line.end()).unwrap()
}

fn fields(fill: impl FnOnce(&mut LogLine)) -> Value {
    serde_json::from_str(&whole(LogFormat::Json, fill)).unwrap()
}

fn tunnel<'a>(visitor: &'a ClientInfo, particulars: RequestFields<'a>) -> SessionStart<'a> {
    SessionStart {
        visitor,
        session: 7,
        route: "chat",
        backend: "127.0.0.1:9001",
        particulars,
        dial: Duration::from_millis(3),
        generation: 2,
    }
}

fn over<'a>(tunnel: SessionStart<'a>, tally: &'a Stats) -> SessionEnd<'a> {
    let rtt = |micros| Duration::from_micros(micros);
    SessionEnd {
        tunnel,
        end: TerminationReason::Over(Side::Client, LimitKind::Message),
        deciding: DecidingSetting { key: Some("limits.idle"), value: Some("1h".into()) },
        tally,
        closes: CloseCodes { to_client: Some(1009), to_backend: Some(1001) },
        client_rtt: Some(Rtt { last: rtt(12_345), max: rtt(1_000_007), answers: 2 }),
        backend_rtt: None,
        client_reported: ReportedViolations::default(),
        backend_reported: ReportedViolations::default(),
        client_delayed: ReadDelays::default(),
        backend_delayed: ReadDelays {
            time: Duration::from_micros(2500),
            by: ReportedViolations::default(),
        },
        age: Duration::from_millis(61_000),
    }
}

#[test]
fn the_record_of_an_end_says_everything() {
    let flow = |n| DirectionStats { bytes: n, messages: n + 1, compressed: n + 2, largest: n + 3 };
    let tally = Stats { up: flow(10), down: flow(20) };
    let visitor = visitor();
    let ended = over(tunnel(&visitor, SHOWN), &tally);
    let expected = json!({
        "session": 7, "client": "203.0.113.7:5000", "client_key": "203.0.113.7",
        "listener": "main", "tls_version": "1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256",
        "sni": "a.example", "route": "chat", "backend": "127.0.0.1:9001",
        "host": "a.example", "target": "/ws?token=[redacted]",
        "user_agent": "Browser/1.0 (X11)", "request_id": "4e6a",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "subprotocol": "chat", "protocol": "http/1.1", "backend_handshake_ms": 3, "generation": 2,
        "stage": "tunnel", "end": "message_too_big", "by": "client",
        "key": "limits.idle", "value": "1h", "close_client": 1009, "close_backend": 1001,
        "up_bytes": 10, "down_bytes": 20, "up_messages": 11, "down_messages": 21,
        "up_compressed": 12, "down_compressed": 22, "up_largest": 13, "down_largest": 23,
        "client_rtt_ms": 12.345, "client_rtt_max_ms": 1000.007, "delayed_backend_ms": 2, "age_ms": 61_000,
    });
    assert_eq!(fields(|line| tell_ended(line, &ended)), expected);
    let text = whole(LogFormat::Text, |line| tell_ended(line, &ended));
    assert!(text.starts_with("session=7 client=203.0.113.7:5000 client_key="), "{text}");
    assert!(text.contains(" target=\"/ws?token=[redacted]\" "), "{text}");
    assert!(text.contains(" user_agent=\"Browser/1.0 (X11)\" "), "{text}");
    assert!(text.contains(" client_rtt_ms=12.345 client_rtt_max_ms=1000.007 "), "{text}");
}

#[test]
fn what_is_absent_has_no_key() {
    let mut visitor = visitor();
    visitor.tls = None;
    let bare = RequestFields { host: "a", target: "/", ..RequestFields::default() };
    let begun = fields(|line| tell_begun(line, &tunnel(&visitor, bare)));
    let keys: Vec<&str> = begun.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["session", "client", "client_key", "listener", "route", "backend"].to_vec();
    expected.extend(["host", "target", "protocol", "backend_handshake_ms", "generation"]);
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn what_would_have_been_closed_is_listed_once() {
    let offences = [
        Violation::Over(LimitKind::Message),
        Violation::Over(LimitKind::Controls),
        Violation::Breach(ProtocolError::CloseLength),
        Violation::Breach(ProtocolError::CloseCode),
    ];
    let listed = slugs(offences.into_iter());
    assert_eq!(listed, ["message_too_big", "control_rate", "ws_close"]);
    // Whatever the offences, no slug stands twice.
    let mut all = slugs(Violation::all());
    let before = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), before);
}

#[test]
fn drops_and_refusals_say_who_and_why() {
    let visitor = visitor();
    let why = DropReason::HeadBad("bad \u{1b}[31m\nheader".into());
    let deciding = DecidingSetting::default();
    let age = Duration::from_millis(5);
    let line = fields(|line| tell_dropped(line, &visitor, &why, &deciding, age));
    assert_eq!(line["detail"], "bad \\u{1b}[31m\\u{a}header");
    assert_eq!((&line["stage"], &line["end"]), (&"head".into(), &"head_invalid".into()));
    assert_eq!(line["sni"], "a.example");
    let refused = RejectedRequest {
        visitor: &visitor,
        refusal: &RejectReason::Origin,
        route: Some("chat"),
        backend: None,
        particulars: RequestFields { subprotocol: None, ..SHOWN },
        origin: Some("https://evil.example"),
        deciding: DecidingSetting { key: RejectReason::Origin.key(), value: None },
        age,
        generation: 1,
    };
    let line = fields(|line| tell_refused(line, &refused));
    assert_eq!((&line["status"], &line["end"]), (&403.into(), &"origin".into()));
    assert_eq!(line["origin"], "https://evil.example");
    for (key, value) in [
        ("user_agent", SHOWN.user_agent),
        ("request_id", SHOWN.request_id),
        ("traceparent", SHOWN.traceparent),
    ] {
        assert_eq!(line[key].as_str(), value, "{line}");
    }
    assert!(line.get("backend").is_none() && line.get("value").is_none(), "{line}");
}
