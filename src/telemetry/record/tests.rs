//! The fields of each record.

use hyper::StatusCode;
use serde_json::{Value, json};
use ws::{
    CloseCodes, LimitKind, PerSide, ProtocolError, ReadDelays, Rtt, Side, SideSummary,
    TerminationReason,
};

use super::served::{ServedRequest, write_served};
use super::*;
use crate::client::{AddrSource, ClientAddr, KeyPrefixes};
use crate::config::settings::LogFormat;
use crate::reject::OriginMismatch;
use crate::reject::invalid_head::InvalidHead;
use crate::telemetry::fixtures;
use crate::telemetry::record_rate::{SuppressedRecords, write_suppressed};

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
    choice: None,
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
        backend_address: None,
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
    let verdict = "client=203.0.113.7:5000 end=message_too_big by=client \
                   key=limits.message_from_client value=1MiB close_client=1009 close_backend=1001 \
                   size=41943040 session=7 route=chat ";
    assert!(text.starts_with(verdict), "{text}");
    assert!(text.contains(" target=\"/ws?token=[redacted]\" "), "{text}");
    assert!(text.contains(" user_agent=\"Browser/1.0 (X11)\" "), "{text}");
    assert!(text.contains(" client_rtt_ms=12.345 client_rtt_max_ms=1000.007 "), "{text}");
}

/// The keys of the table in `docs/records.md`, whose order is that of every record.
fn documented() -> Vec<&'static str> {
    let fields = include_str!("../../../docs/records.md").split("## Fields").nth(1).unwrap();
    let table = fields.split("\n\n").find(|part| part.starts_with("| field |")).unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `")?.split(" | ").next());
    rows.flat_map(|keys| keys.split("`, `").map(|key| key.trim_matches('`'))).collect()
}

/// Panics unless all keys of the line are documented and have the documented order.
fn assert_order(line: &str, format: LogFormat) {
    let at = |key: &&str| {
        line.find(&match format {
            LogFormat::Text => format!(" {key}="),
            LogFormat::Json => format!("\"{key}\":"),
        })
    };
    let found: Vec<usize> = documented().iter().filter_map(at).collect();
    assert!(found.is_sorted(), "{line}");
    let keys = match format {
        // Only quoted values contain the sign.
        LogFormat::Text => line.split('"').step_by(2).map(|part| part.matches('=').count()).sum(),
        LogFormat::Json => serde_json::from_str::<Value>(line).unwrap().as_object().unwrap().len(),
    };
    assert_eq!(found.len(), keys, "{line}");
}

/// One record of each event for this client, with every field that an event can have.
fn every_record(client: &ClientInfo, fields: RequestFields<'_>, format: LogFormat) -> [String; 6] {
    let age = Duration::from_millis(5);
    let mut summary = summary(Stats::default());
    for side in [&mut summary.sides.client, &mut summary.sides.backend] {
        side.rtt = Some(Rtt { last: age, max: age, answers: 1 });
        side.reported_size = Some(7);
        side.delays.time = age;
    }
    let ended = SessionEnd { start: start(client, fields), summary: &summary, age };
    let deciding = || DecidingSetting { key: Some("a.key"), value: Some("7".to_owned()) };
    let head = InvalidHead {
        detail: "bad".into(),
        status: Some(StatusCode::BAD_REQUEST),
        ..Default::default()
    };
    let dropped = DroppedConnection {
        client,
        reason: &DropReason::HeadInvalid(head),
        host: Some("a.example"),
        target: Some("/ws"),
        deciding: deciding(),
        age,
    };
    let progress = ResponseProgress { up_bytes: 1, down_bytes: 2, head: age };
    let rejected = RejectedRequest {
        fields,
        deciding: deciding(),
        progress: Some(progress),
        ..refusal(client)
    };
    let served = ServedRequest {
        client,
        route: "chat",
        backend: "127.0.0.1:9001",
        fields,
        status: StatusCode::OK,
        is_complete: false,
        progress,
        age,
        generation: 1,
    };
    let kind = RecordKind { client: Some(client.key), event: "rejected", end: "no_route" };
    let suppressed = SuppressedRecords { kind, count: 7, rate: Some("20/s".to_owned()) };
    [
        whole(format, |line| write_start(line, &ended.start)),
        whole(format, |line| write_end(line, &ended)),
        whole(format, |line| write_drop(line, &dropped)),
        whole(format, |line| write_reject(line, &rejected)),
        whole(format, |line| write_served(line, &served)),
        whole(format, |line| write_suppressed(line, &suppressed)),
    ]
}

#[test]
fn every_record_has_the_documented_order() {
    let mut client = fixtures::client();
    client.addr_source = AddrSource::Forwarded;
    client.peer = Some(Box::new(client.addr));
    let all = RequestFields {
        forwarded_invalid: Some("x"),
        would_reject: Some("y"),
        dropped_headers: Some("z"),
        choice: Some("pin"),
        ..SHOWN
    };
    for format in [LogFormat::Text, LogFormat::Json] {
        for record in every_record(&client, all, format) {
            assert_order(&format!(" {}", record.trim_end()), format);
        }
    }
}

/// Programs read these lines. A change of one is a change for users.
#[test]
fn records_are_the_same_to_the_byte() {
    let from_proxy = ClientInfo {
        peer: Some(Box::new(ClientAddr::new("[2001:db8::7]:443".parse().unwrap()))),
        addr_source: AddrSource::ProxyHeader,
        tls: None,
        ..ClientInfo::new(
            "[2001:db8:1:2:3::4]:0".parse().unwrap(),
            KeyPrefixes::default(),
            "a b".into(),
        )
    };
    let network = ClientInfo::new(
        "198.51.100.255:65535".parse().unwrap(),
        KeyPrefixes { v4: 24, v6: 64 },
        "main".into(),
    );
    let hostile = RequestFields {
        target: "/\"\\=",
        user_agent: Some("a\tb \u{e9}\u{1b}[31m"),
        dropped_headers: Some("x_a, x_b"),
        ..SHOWN
    };
    let absent = RequestFields { host: "", target: "", ..RequestFields::default() };
    let mut lines = String::new();
    for format in [LogFormat::Text, LogFormat::Json] {
        for (client, fields) in
            [(&fixtures::client(), SHOWN), (&from_proxy, hostile), (&network, absent)]
        {
            lines.extend(every_record(client, fields, format));
        }
    }
    assert_eq!(lines, include_str!("lines.txt"));
}

/// A page of another site, opened in a browser.
fn refusal(client: &ClientInfo) -> RejectedRequest<'_> {
    RejectedRequest {
        client,
        reason: &RejectReason::Origin(OriginMismatch::NotListed),
        detail: None,
        route: Some("chat"),
        backend: None,
        fields: RequestFields {
            host: "chat.example.com",
            target: "/ws",
            user_agent: Some(
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/143.0.0.0 Safari/537.36",
            ),
            request_id: Some("6d0f8f2cb7f94e5c8b8f3f0f5a3f1c2d"),
            ..RequestFields::default()
        },
        origin: Some("https://other.example.org"),
        deciding: DecidingSetting { key: Some("route.origins"), value: None },
        progress: None,
        is_logged: false,
        age: Duration::from_millis(1),
        generation: 1,
    }
}

#[test]
fn refusals_are_short_and_start_with_the_cause() {
    let client = fixtures::client();
    let short = "time=2026-03-01T09:12:07.318Z event=rejected ".len();
    let text = |rejected: &RejectedRequest<'_>| {
        let text = whole(LogFormat::Text, |line| write_reject(line, rejected));
        assert!(short + text.trim_end().len() < 300, "{} in {text}", short + text.len());
        text
    };
    let origin = text(&refusal(&client));
    let cause = "client=203.0.113.7:5000 end=origin key=route.origins status=403 detail=\"";
    assert!(origin.starts_with(cause), "{origin}");
    let limit = text(&RejectedRequest {
        reason: &RejectReason::ClientRateLimit,
        deciding: DecidingSetting {
            key: Some("rates.handshakes_per_client"),
            value: Some("20/s, burst 100".to_owned()),
        },
        ..refusal(&client)
    });
    let cause = "client=203.0.113.7:5000 end=client_rate_limit key=rates.handshakes_per_client \
                 value=\"20/s, burst 100\" status=429 route=chat ";
    assert!(limit.starts_with(cause), "{limit}");
    // The application has the request too, so the record names its id.
    let rejected = text(&RejectedRequest {
        reason: &RejectReason::BackendRejected(StatusCode::UNAUTHORIZED),
        backend: Some("127.0.0.1:9001"),
        deciding: DecidingSetting::default(),
        ..refusal(&client)
    });
    assert!(rejected.contains(" request_id=6d0f"), "{rejected}");
    // JSON has everything.
    let json = fields(|line| write_reject(line, &refusal(&client)));
    for key in ["client_key", "stage", "listener", "tls_version", "user_agent", "request_id"] {
        assert!(json.get(key).is_some(), "{key} is not in {json}");
    }
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
