//! Every limit, on either side, with the actions `close` and `report`: traffic within the limit
//! passes; beyond it the tunnel closes with a code and reason, or a record reports it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    PlainStream, Side, TestBed, assert_relays, close_after_violation, close_normally, wire,
    within_timeout,
};

/// A limit, and traffic that exceeds it.
struct Case {
    /// The key without `_from_...`.
    key: &'static str,
    /// Its inline table without the action.
    table: &'static str,
    /// Its value as shown in records.
    value: &'static str,
    slug: &'static str,
    code: u16,
    reason: &'static str,
    /// First byte and payload of each frame that passes; sent in one write.
    fits: Frames,
    /// The frames that exceed it; empty if time does.
    crosses: Frames,
    /// The frames that complete the message if it may pass.
    ends: Frames,
}

const TEXT: u8 = 0x80 | wire::TEXT;
const LAST: u8 = 0x80 | wire::CONTINUATION;

type Frames = Vec<(u8, Vec<u8>)>;

fn case(
    key: &'static str,
    table: &'static str,
    value: &'static str,
    (slug, code, reason): (&'static str, u16, &'static str),
    fits: Frames,
    crosses: Frames,
) -> Case {
    Case { key, table, value, slug, code, reason, fits, crosses, ends: vec![] }
}

fn cases(side: Side) -> Vec<Case> {
    let sized = |size: usize| (TEXT, vec![b'x'; size]);
    let half = 1000 - side.frame(TEXT, &[0; 500]).len();
    let fragment = |first| (first, b"x".to_vec());
    vec![
        case(
            "message",
            "max = \"1000B\"",
            "1000B",
            ("message_too_big", 1009, "message too big"),
            vec![sized(1000), (wire::TEXT, vec![b'x'; 600]), (LAST, vec![b'x'; 400])],
            vec![sized(1001)],
        ),
        case(
            "frame",
            "max = \"1KiB\"",
            "1KiB",
            ("frame_too_big", 1009, "frame too big"),
            vec![sized(1024), (wire::TEXT, vec![b'x'; 1024]), (LAST, vec![b'x'; 1024])],
            vec![sized(1025)],
        ),
        Case {
            ends: vec![fragment(LAST)],
            ..case(
                "fragments",
                "max = 3",
                "3",
                ("too_many_fragments", 1008, "too many fragments"),
                [wire::TEXT, 0, LAST, wire::TEXT, 0, 0].map(fragment).into(),
                vec![fragment(0)],
            )
        },
        Case {
            ends: vec![fragment(LAST)],
            ..case(
                "message_age",
                "max = \"300ms\"",
                "300ms",
                ("message_too_old", 1008, "message took too long"),
                vec![fragment(TEXT), fragment(wire::TEXT)],
                vec![],
            )
        },
        case(
            "messages",
            "rate = \"1/s\", burst = 4",
            "1/s",
            ("message_rate", 1008, "too many messages"),
            vec![sized(1), sized(200), (wire::TEXT, vec![]), (LAST, vec![]), sized(0)],
            vec![sized(1), sized(1)],
        ),
        case(
            "bytes",
            "rate = \"1B/s\", burst = \"1000B\"",
            "1B/s",
            ("byte_rate", 1008, "too many bytes"),
            vec![sized(half), sized(half)],
            vec![sized(900)],
        ),
        case(
            "control_frames",
            "rate = \"1/s\", burst = 3",
            "1/s",
            ("control_rate", 1008, "too many control frames"),
            [0x89, 0x8a, 0x89].map(fragment).into(),
            vec![fragment(0x8a), fragment(0x89)],
        ),
    ]
}

impl Case {
    async fn bed(&self, side: Side, action: &str) -> TestBed {
        let Self { key, table, .. } = self;
        let side = side.as_str();
        let limit = format!("[limits]\n{key}_from_{side} = {{ {table}, action = \"{action}\" }}\n");
        TestBed::with(&limit).await
    }

    /// The size in records: that of the frame that exceeds the limit, if the limit is on sizes.
    fn size(&self) -> Value {
        let is_size = self.slug.ends_with("_too_big");
        if is_size { json!(self.crosses[0].1.len()) } else { json!(null) }
    }
}

fn bytes(side: Side, frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| side.frame(*first, payload)).collect()
}

async fn assert_arrives(hearer: &mut PlainStream, expected: &[u8], what: &str) {
    let mut got = vec![0; expected.len()];
    within_timeout(what, hearer.read_exact(&mut got)).await.unwrap();
    assert!(got == expected, "{what}");
}

fn close_reason(close: &wire::Frame) -> String {
    String::from_utf8(close.payload[2..].to_vec()).unwrap()
}

#[tokio::test]
async fn each_limit_closes_with_its_own_code() {
    let both = Side::BOTH
        .into_iter()
        .flat_map(|side| cases(side).into_iter().map(move |case| (side, case)));
    join_all(both.map(|(side, case)| closes(side, case))).await;
}

async fn closes(side: Side, case: Case) {
    let what = format!("{} from {}", case.key, side.as_str());
    let bed = case.bed(side, "close").await;
    let (mut speaker, mut hearer) = bed.open_for(side).await;
    let fits = bytes(side, &case.fits);
    // In one write, so that no rate recovers in between.
    speaker.write_all(&[&fits[..], &bytes(side, &case.crosses)].concat()).await.unwrap();
    assert_arrives(&mut hearer, &fits, &what).await;

    let (close, to_other) = close_after_violation(side, &mut speaker, &mut hearer).await;
    assert_eq!((close.code(), close_reason(&close)), (case.code, case.reason.into()), "{what}");
    let other = if side == Side::Client { 1001 } else { 1013 };
    let expected = "the other side failed".to_owned();
    assert_eq!(
        (to_other.code(), close_reason(&to_other)),
        (other, expected),
        "{what}: none of it passed"
    );
    drop((speaker, hearer));

    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["by"]), (&json!(case.slug), &json!(side.as_str())));
    let key = format!("limits.{}_from_{}", case.key, side.as_str());
    assert_eq!((&record["key"], value(&record)), (&json!(key), case.value));
    assert_eq!(record["size"], case.size(), "{what}");
    let codes = match side {
        Side::Client => [case.code, other],
        Side::Backend => [other, case.code],
    };
    let closes = [&record["close_client"], &record["close_backend"]];
    assert_eq!(closes, [&json!(codes[0]), &json!(codes[1])], "{what}");
    let up = if side == Side::Client { "up_bytes" } else { "down_bytes" };
    assert_eq!(record[up], fits.len(), "{what}");
}

#[tokio::test]
async fn report_action_logs_once_and_relays() {
    let both = Side::BOTH
        .into_iter()
        .flat_map(|side| cases(side).into_iter().map(move |case| (side, case)));
    join_all(both.map(|(side, case)| reports(side, case))).await;
}

async fn reports(side: Side, case: Case) {
    let what = format!("{} from {}", case.key, side.as_str());
    let bed = case.bed(side, "report").await;
    let (mut speaker, mut hearer) = bed.open_for(side).await;
    let frames = [&case.fits[..], &case.crosses[..]].concat();
    for round in 1..=2 {
        let sent = bytes(side, &frames);
        speaker.write_all(&sent).await.unwrap();
        assert_arrives(&mut hearer, &sent, &what).await;
        if round == 1 {
            let reported = |r: &serde_json::Value| {
                r["message"] == "limit or protocol violation reported; the tunnel stays open"
            };
            let report = bed.proxy.record(&what, reported).await;
            let key = format!("limits.{}_from_{}", case.key, side.as_str());
            assert_eq!([&report["side"], &report["rule"]], [side.as_str(), case.slug], "{report}");
            assert_eq!((report["key"].as_str(), value(&report)), (Some(&*key), case.value));
            assert_eq!(report["size"], case.size(), "{what}");
        } else if case.crosses.is_empty() {
            // Wait as long as it took the first time.
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        }
        let ends = bytes(side, &case.ends);
        speaker.write_all(&ends).await.unwrap();
        assert_arrives(&mut hearer, &ends, &what).await;
    }
    let (mut client, mut backend) = side.client_first(speaker, hearer);
    assert_relays(&mut client, &mut backend).await;
    close_normally(client, backend).await;

    let record = bed.tunnel_end(1).await;
    assert_eq!(record["end"], "client_closed", "{what}");
    let (own, other) = match side {
        Side::Client => ("would_close_client", "would_close_backend"),
        Side::Backend => ("would_close_backend", "would_close_client"),
    };
    assert_eq!((&record[own], &record[other]), (&json!([case.slug]), &json!(null)));
    assert_eq!(record[format!("{own}_size")], case.size(), "{what}");
    assert_eq!([&record["size"], &record[format!("{other}_size")]], [&json!(null); 2]);
    let records = bed.proxy.records();
    let reports = records
        .iter()
        .filter(|r| r["message"] == "limit or protocol violation reported; the tunnel stays open")
        .count();
    assert_eq!(reports, 1, "{what}");
    let labels = [("route", "all"), ("side", side.as_str()), ("reason", case.slug)];
    let scrape = bed.proxy.scrape().await;
    let name = "tidegate_would_have_closed_total";
    assert_eq!((scrape.value(name, &labels), scrape.sum(name, &[])), (1.0, 1.0), "{what}");
}

#[tokio::test]
async fn route_limits_override_the_global_ones() {
    let keys = "path = \"/ws\"\n[route.limits]\nmessage_from_client = \"2000B\"\n\
                control_frames_from_client = \"off\"\n[limits]\nmessage_from_client = \"1000B\"\n\
                fragments_from_client = 2\n";
    let bed = TestBed::with(keys).await;
    let (mut client, mut backend) = bed.open().await;
    let pings = wire::masked(0x89, b"").repeat(200);
    let fits = [wire::masked(TEXT, &[b'x'; 2000]), pings].concat();
    client.write_all(&fits).await.unwrap();
    assert_arrives(&mut backend, &fits, "what the route allows").await;
    client.write_all(&wire::masked(TEXT, &[b'x'; 2001])).await.unwrap();
    let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!(close.code(), 1009);
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["value"], "2000B");

    let (mut client, mut backend) = bed.open().await;
    let fragments = [(wire::TEXT, vec![]), (0, vec![]), (0, vec![])];
    client.write_all(&bytes(Side::Client, &fragments)).await.unwrap();
    assert_arrives(&mut backend, &bytes(Side::Client, &fragments[..2]), "two fragments").await;
    let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!(close.code(), 1008, "the global limit");
    drop((client, backend));
    assert_eq!(bed.tunnel_end(2).await["end"], "too_many_fragments");
    // A route without limits of its own.
    let own =
        "[route.limits]\nmessage_from_client = \"2000B\"\ncontrol_frames_from_client = \"off\"\n";
    bed.proxy.reload_with(own, "").await;
    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(TEXT, &[b'x'; 1001])).await.unwrap();
    let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!(close.code(), 1009);
}

/// The record says what was declared: nothing of the payload arrives.
// Requirements: FC41.
#[tokio::test]
async fn record_states_the_declared_size() {
    const DECLARED: u64 = 40 << 20;
    let limits = "[limits]\nmessage_from_client = \"16MiB\"\nmessage_from_backend = \"16MiB\"\n";
    let bed = TestBed::with(limits).await;
    let mut session = 0;
    for side in Side::BOTH {
        let bit = if side == Side::Client { 0x80 } else { 0 };
        for (first, before) in [(TEXT, 0), (LAST, 600)] {
            session += 1;
            let (mut speaker, mut hearer) = bed.open_for(side).await;
            let start = side.frame(wire::TEXT, &[b'x'; 600]);
            if before > 0 {
                speaker.write_all(&start).await.unwrap();
                assert_arrives(&mut hearer, &start, "the start of a message").await;
            }
            speaker.write_all(&wire::header(first, bit, DECLARED)).await.unwrap();
            let (close, _) = close_after_violation(side, &mut speaker, &mut hearer).await;
            assert_eq!(close.code(), 1009);
            drop((speaker, hearer));
            let record = bed.tunnel_end(session).await;
            assert_eq!(
                (&record["end"], &record["value"]),
                (&json!("message_too_big"), &json!("16MiB"))
            );
            assert_eq!(record["size"], before + DECLARED, "{record}");
        }
    }
}

/// The value without the burst, which the cases do not state.
fn value(record: &serde_json::Value) -> &str {
    let value = record["value"].as_str().unwrap_or_default();
    value.split_once(", burst ").map_or(value, |(rate, _)| rate)
}
