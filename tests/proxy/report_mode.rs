//! Routes with `strict = "report"`: frames that violate RFC 6455 pass unchanged as long as their end
//! can be determined, and each kind of violation is logged once.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::head::with_lines;
use crate::support::{
    Client, MockBackend, Proxy, Record, Side, TestBed, assert_relays, close_after_violation,
    close_normally, read_response, read_to_end, route, wire, within_timeout,
};

const REPORT: &str = "strict = \"report\"\n[limits]\nmessage_from_client = \"100KiB\"\n\
                      message_from_backend = \"100KiB\"\n";

/// Frames that violate a rule, with the name of the rule.
fn invalid_frames(side: Side) -> Vec<(&'static str, Vec<u8>)> {
    let other = side.other();
    let mask = if side == Side::Client { "ws_unmasked" } else { "ws_masked" };
    let key: &[u8] = if side == Side::Client { &[1, 2, 3, 4] } else { &[] };
    let bit = if side == Side::Client { 0x80 } else { 0 };
    let long = [&[0x82, bit | 126, 0, 4], key, b"long"].concat();
    vec![
        (mask, other.frame(0x81, b"as the other side would")),
        ("ws_rsv", side.frame(0xf1, b"all reserved bits")),
        ("ws_opcode", [side.frame(0x83, b"three"), side.frame(0x8b, b"eleven")].concat()),
        ("ws_length", long),
        ("ws_continuation", side.frame(0x80, b"of nothing")),
        ("ws_control", side.frame(0x89, &[b'p'; 126])),
        ("ws_control", [side.frame(0x09, b"half"), side.frame(0x8a, b"whole")].concat()),
    ]
}

#[tokio::test]
async fn report_mode_relays_and_logs_once() {
    for side in Side::BOTH {
        let bed = TestBed::with(REPORT).await;
        let cases = invalid_frames(side);
        for (session, (slug, frames)) in (1..).zip(&cases) {
            let (mut speaker, mut hearer) = bed.open_for(side).await;
            let sent = [&side.frame(0x81, b"valid")[..], frames, frames].concat();
            speaker.write_all(&sent).await.unwrap();
            let mut got = vec![0; sent.len()];
            within_timeout("the reported frames", hearer.read_exact(&mut got)).await.unwrap();
            assert!(got == sent, "{side:?} {slug}");
            let (mut client, mut backend) = side.client_first(speaker, hearer);
            assert_relays(&mut client, &mut backend).await;
            close_normally(client, backend).await;
            let record = bed.tunnel_end(session).await;
            assert_eq!(record["end"], "client_closed");
            let own = format!("would_close_{}", side.as_str());
            assert_eq!(record[&own], json!([slug]), "{record}");
            let of = |r: &Record| {
                r["message"] == "limit or protocol violation reported; the tunnel stays open"
                    && r["session"] == session
            };
            let reports: Vec<_> = bed.proxy.records().into_iter().filter(of).collect();
            assert_eq!(reports.len(), 1, "{reports:#?}");
            assert_eq!([&reports[0]["rule"], &reports[0]["side"]], [slug, side.as_str()]);
            assert_eq!([&reports[0]["key"], &reports[0]["value"]], ["route.strict", "report"]);
        }
        let scrape = bed.proxy.scrape().await;
        let name = "tidegate_would_have_closed_total";
        assert_eq!(scrape.sum(name, &[("side", side.as_str())]), cases.len() as f64);
    }
}

#[tokio::test]
async fn unparsable_and_oversized_frames_still_close() {
    let bed = TestBed::with(REPORT).await;
    let mut session = 0;
    for side in Side::BOTH {
        let bit = if side == Side::Client { 0x80 } else { 0 };
        let huge = wire::header(0x83, bit, 100 * 1024 + 1);
        let endless = [&[0x82, bit | 127][..], &[0xff; 8]].concat();
        for (frame, code, end) in [(huge, 1009, "message_too_big"), (endless, 1002, "ws_length")] {
            session += 1;
            let (mut speaker, mut hearer) = bed.open_for(side).await;
            let key: &[u8] = if side == Side::Client { &[0; 4] } else { &[] };
            speaker.write_all(&[&frame[..], key].concat()).await.unwrap();
            let (close, _) = close_after_violation(side, &mut speaker, &mut hearer).await;
            assert_eq!(close.code(), code, "{side:?} {end}");
            drop((speaker, hearer));
            let record = bed.tunnel_end(session).await;
            assert_eq!([&record["end"], &record["by"]], [end, side.as_str()]);
        }
    }
}

#[tokio::test]
async fn invalid_close_frame_still_closes() {
    let bed = TestBed::with(REPORT).await;
    for (session, payload) in
        [(1, wire::close(1005, "")), (2, vec![3]), (3, b"\x03\xe8\xff".to_vec())]
    {
        let (mut client, mut backend) = bed.open().await;
        let close = wire::masked(0x80 | wire::CLOSE, &payload);
        client.write_all(&close).await.unwrap();
        let mut got = vec![0; close.len()];
        within_timeout("the Close", backend.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, close);
        backend.write_all(&wire::unmasked(0x80 | wire::CLOSE, &payload)).await.unwrap();
        assert_eq!(wire::read(&mut client).await.unwrap().payload, payload);
        read_to_end(&mut client).await;
        drop((client, backend));
        let record = bed.tunnel_end(session).await;
        assert_eq!(record["end"], "client_closed", "{record}");
        assert_eq!(record["would_close_client"], json!(["ws_close"]));
        assert_eq!(record["would_close_backend"], json!(["ws_close"]));
    }
}

// Requirements: W9.
#[tokio::test]
async fn unoffered_subprotocol_passes_and_is_recorded() {
    let backend = MockBackend::with("Sec-WebSocket-Protocol: ocpp1.6\r\n").await;
    let strict = route(&[backend.address()], "path = \"/strict\"");
    let strict = strict.replace("\"all\"", "\"strict\"");
    let proxy = Proxy::start(&(route(&[backend.address()], REPORT) + &strict)).await;
    let client = Client::new(&proxy).await;
    for (session, offer) in [(1, "X: y"), (2, "Sec-WebSocket-Protocol: OCPP1.6, ocpp2.0")] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(with_lines(offer).as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        assert_eq!(response.status, 101, "{offer}: {:#?}", proxy.outcomes());
        assert_eq!(response.all("sec-websocket-protocol"), "ocpp1.6");
        let mut backend = backend.accept().await;
        assert_relays(&mut stream, &mut backend).await;
        close_normally(stream, backend).await;
        let record = proxy.tunnel_end(session).await;
        assert_eq!(record["subprotocol"], "ocpp1.6");
        let detail = record["would_reject"].as_str().unwrap();
        assert!(detail.starts_with("subprotocol that was not offered"), "{detail}");
        let is_report = |record: &Record| {
            record["message"] == "handshake violation of the backend reported; the tunnel opens"
                && record["session"] == session
        };
        let logged = proxy.record("a report", is_report).await;
        assert_eq!((&logged["key"], &logged["value"]), (&"route.strict".into(), &"report".into()));
        assert_eq!(proxy.records().into_iter().filter(is_report).count(), 1);
    }
    // One that was offered is not reported.
    let mut stream = BufReader::new(client.connect_plain().await);
    stream.write_all(with_lines("Sec-WebSocket-Protocol: ocpp1.6").as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    close_normally(stream, backend.accept().await).await;
    assert!(proxy.tunnel_end(3).await["would_reject"].is_null());
    // Another route enforces the rule.
    let strict = with_lines("X: y").replacen("/ws", "/strict", 1);
    assert_eq!(client.request(strict.as_bytes()).await.status, 502);
    let record = proxy.end_record("backend_handshake_invalid").await;
    assert_eq!(record["route"], "strict");
    assert!(record["detail"].as_str().unwrap().contains("route.strict = \"report\""), "{record}");
}
