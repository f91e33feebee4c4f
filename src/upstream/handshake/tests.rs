use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use super::*;
use crate::http::Asked;
use crate::http::sample::opening;
use crate::upstream::scripted::{connected, guest, read_head, reply, sendable};

const LIMIT: Duration = Duration::from_secs(5);

/// The accept value of the key in [`opening`] (RFC 6455 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A flawless 101, with these lines added.
fn yes(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// Asks with these lines in the client's head, against a backend that does as told and holds the
/// connection.
async fn ask_with<Script: AsyncFnOnce(&mut TcpStream)>(
    lines: &str,
    compression: Compression,
    limit: Duration,
    script: Script,
) -> (Result<Upgraded, NotUpgraded>, Arc<Backend>) {
    let head = opening(lines);
    let Ok(Asked::WebSocket(handshake)) = Asked::read(&head) else { panic!("{lines}") };
    let (dialled, mut stream) = connected().await;
    let backend = Arc::clone(&dialled.backend);
    let guest = guest();
    let introduction = guest.introduction();
    let asked = sendable(upgrade(dialled, &head, &handshake, &introduction, compression, limit));
    (tokio::join!(asked, script(&mut stream)).0, backend)
}

/// Asks a backend that says this and then holds the connection.
async fn ask(said: &str) -> Result<Upgraded, NotUpgraded> {
    let lines = "Sec-WebSocket-Protocol: chat, v2\nSec-WebSocket-Extensions: permessage-deflate\n";
    let script = async |stream: &mut TcpStream| {
        reply(stream, said.as_bytes()).await;
    };
    ask_with(lines, Compression::Pass, LIMIT, script).await.0
}

async fn assert_bad(said: &str) {
    match ask(said).await {
        Err(NotUpgraded::Refused(Refusal::BackendBad(_))) => {}
        other => panic!("{said}: {other:?}"),
    }
}

async fn bodied(response: Response<Full<Bytes>>) -> Bytes {
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes()
}

#[tokio::test]
async fn rfc_w7_w13_a_flawless_101_opens_the_tunnel() {
    let upgraded = ask(&yes("Set-Cookie: a=1\r\nSec-WebSocket-Protocol: v2\r\n")).await.unwrap();
    assert_eq!(upgraded.subprotocol.as_deref(), Some("v2"));
    assert_eq!((upgraded.deflate, upgraded.early.len()), (Deflate::Off, 0));
    let headers = upgraded.response.headers();
    assert_eq!(upgraded.response.status(), 101);
    assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], ACCEPT);
    assert_eq!(headers["sec-websocket-protocol"], "v2");
    assert_eq!(headers["set-cookie"], "a=1");
    assert_eq!(headers["connection"], "Upgrade");
}

#[tokio::test]
async fn the_backend_sees_a_regenerated_head() {
    let lines = "Origin: https://a\nX_Evil: 1\nConnection: X-Hop\nX-Hop: 1\n\
                 Sec-WebSocket-Extensions: permessage-deflate\n";
    let script = async |stream: &mut TcpStream| {
        let head = reply(stream, yes("").as_bytes()).await;
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("GET /chat?room=1 HTTP/1.1"));
        let expected = [
            "host: example.com",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version: 13",
            "origin: https://a",
            "via: 1.1 tidegate",
            "x-forwarded-for: 203.0.113.7",
            "x-forwarded-proto: https",
            "x-forwarded-host: example.com",
            "x-forwarded-port: 443",
            "x-real-ip: 203.0.113.7",
            "x-request-id: 0123",
            "connection: Upgrade",
            "upgrade: websocket",
            "",
            "",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    };
    ask_with(lines, Compression::Strip, LIMIT, script).await.0.unwrap();
}

#[tokio::test]
async fn bm12_frames_in_the_same_packet_are_kept() {
    let mut said = yes("").into_bytes();
    said.extend_from_slice(b"\x81\x02hi");
    let script = async |stream: &mut TcpStream| {
        reply(stream, &said).await;
        stream.write_all(b"\x81\x01!").await.unwrap();
        let mut heard = [0; 2];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"yo");
    };
    let head = opening("");
    let Ok(Asked::WebSocket(handshake)) = Asked::read(&head) else { panic!() };
    let (dialled, mut stream) = connected().await;
    let guest = guest();
    let introduction = guest.introduction();
    let client = async {
        let asked = upgrade(dialled, &head, &handshake, &introduction, Compression::Strip, LIMIT);
        let mut upgraded = asked.await.unwrap();
        let mut heard = upgraded.early.to_vec();
        while heard.len() < 7 {
            upgraded.stream.read_buf(&mut heard).await.unwrap();
        }
        assert_eq!(heard, b"\x81\x02hi\x81\x01!");
        upgraded.stream.write_all(b"yo").await.unwrap();
    };
    tokio::join!(client, script(&mut stream));
}

#[tokio::test]
async fn bm03_silence_is_a_timeout() {
    let hold = async |stream: &mut TcpStream| {
        read_head(stream).await;
        let _ = stream.read(&mut [0; 1]).await;
    };
    let limit = Duration::from_millis(50);
    let (asked, backend) = ask_with("", Compression::Strip, limit, hold).await;
    let Err(NotUpgraded::Refused(refusal)) = asked else { panic!("{asked:?}") };
    assert_eq!(refusal, Refusal::BackendTimeout);
    assert_eq!(refusal.key(), Some("timeouts.backend_answer"));
    // A slow answer is not counted: two failures are not the third.
    backend.health.failed(Instant::now());
    assert!(backend.health.failed(Instant::now()).is_none());
}

#[tokio::test]
async fn bm04_the_deadline_is_for_the_whole_head() {
    let drip = async |stream: &mut TcpStream| {
        read_head(stream).await;
        for byte in yes("").bytes() {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_millis(100);
    let (asked, _) = ask_with("", Compression::Strip, limit, drip).await;
    assert!(matches!(asked, Err(NotUpgraded::Refused(Refusal::BackendTimeout))), "{asked:?}");
}

#[tokio::test]
async fn rfc_w15_bm05_the_applications_refusal_passes() {
    for status in ["301 Moved", "401 Unauthorized", "403 No", "404 Not Found", "426 Up", "500 Oh"] {
        let said = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\nLocation: /login\r\n\
             WWW-Authenticate: Basic\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nno!\n"
        );
        let Err(NotUpgraded::Answer(answer)) = ask(&said).await else { panic!("{status}") };
        assert_eq!(answer.status().as_str(), &status[..3]);
        assert_eq!(answer.headers()["location"], "/login");
        assert_eq!(answer.headers()["www-authenticate"], "Basic");
        assert!(answer.headers()["connection"].to_str().unwrap().starts_with("close"));
        assert!(!answer.headers().contains_key("x-hop"));
        assert_eq!(answer.headers().contains_key("upgrade"), status.starts_with("426"));
        assert_eq!(&bodied(answer).await[..], b"no!\n");
    }
}

#[tokio::test]
async fn bm05_a_refusals_body_is_bounded_in_size_and_time() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, b"HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n").await;
        let _ = stream.write_all(&[b'x'; 200_000]).await;
    };
    let (asked, _) = ask_with("", Compression::Strip, LIMIT, script).await;
    let Err(NotUpgraded::Answer(answer)) = asked else { panic!("{asked:?}") };
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(bodied(answer).await.len(), 64 * 1024);

    let script = async |stream: &mut TcpStream| {
        reply(stream, b"HTTP/1.1 403 No\r\n\r\nstart").await;
        let _ = stream.read(&mut [0; 1]).await;
    };
    let limit = Duration::from_millis(100);
    let (asked, _) = ask_with("", Compression::Strip, limit, script).await;
    let Err(NotUpgraded::Answer(answer)) = asked else { panic!("{asked:?}") };
    assert_eq!(&bodied(answer).await[..], b"start");
}

#[tokio::test]
async fn bm05_success_without_a_switch_is_no_success() {
    for status in ["200 OK", "204 No Content", "206 Partial Content", "299 X", "600 X", "999 X"] {
        assert_bad(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
    }
}

#[tokio::test]
async fn rfc_w7_bm06_every_flaw_of_a_101_is_refused() {
    let flawless = yes("");
    for (from, to) in [
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket, h2c\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket/13\r\n"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade\r\n", "Connection: close\r\n"),
        (ACCEPT, ""),
        (ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
        (ACCEPT, "S3PPLMBITXAQ9KYGZZHZRBK+XOO="),
        ("Sec-WebSocket-Accept", "X-Accept"),
        ("Sec-WebSocket-Accept", "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Accept"),
    ] {
        assert!(flawless.contains(from));
        assert_bad(&flawless.replace(from, to)).await;
    }
}

#[tokio::test]
async fn rfc_h32_bm07_bm08_a_101_with_a_body_or_in_http_1_0_is_refused() {
    assert_bad(&yes("Content-Length: 5\r\n")).await;
    assert_bad(&yes("Content-Length: 0\r\n")).await;
    assert_bad(&yes("Transfer-Encoding: chunked\r\n")).await;
    assert_bad(&yes("").replace("HTTP/1.1", "HTTP/1.0")).await;
}

#[tokio::test]
async fn rfc_w8_w9_bm10_bm11_choices_beyond_the_offer_are_refused() {
    for (compression, deflate, told) in [
        (Compression::Pass, Deflate::Pass, "permessage-deflate"),
        (Compression::Inspect, Deflate::Inspect, "permessage-deflate; client_no_context_takeover"),
    ] {
        let line = "Sec-WebSocket-Extensions: permessage-deflate";
        let script = async |stream: &mut TcpStream| {
            reply(stream, yes(&format!("{line}\r\n")).as_bytes()).await;
        };
        let lines = format!("{line}\n");
        let upgraded = ask_with(&lines, compression, LIMIT, script).await.0.unwrap();
        assert_eq!(upgraded.deflate, deflate);
        assert_eq!(upgraded.response.headers()["sec-websocket-extensions"], told);
    }
    for line in [
        "Sec-WebSocket-Extensions: x-unknown",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16",
        "Sec-WebSocket-Extensions: permessage-deflate;",
        "Sec-WebSocket-Protocol: v3",
        "Sec-WebSocket-Protocol: chat, v2",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: v2",
    ] {
        assert_bad(&yes(&format!("{line}\r\n"))).await;
    }
}

#[tokio::test]
async fn rfc_w14_a_stripped_offer_cannot_be_accepted() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, yes("Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes()).await;
    };
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\n";
    let (asked, _) = ask_with(lines, Compression::Strip, LIMIT, script).await;
    assert!(matches!(asked, Err(NotUpgraded::Refused(Refusal::BackendBad(_)))), "{asked:?}");
}

#[tokio::test]
async fn rfc_h11_bm13_interim_responses_are_skipped_up_to_eight() {
    let hints = |count| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
    assert!(ask(&format!("{}{}", hints(8), yes(""))).await.is_ok());
    assert_bad(&format!("{}{}", hints(9), yes(""))).await;
    assert_bad(&hints(1000)).await;
}

#[tokio::test]
async fn bm14_large_heads_are_refused() {
    assert_bad(&yes(&format!("X: {}\r\n", "x".repeat(17 * 1024)))).await;
    assert_bad(&yes(&"X: 1\r\n".repeat(62))).await;
    assert!(ask(&yes(&"X: 1\r\n".repeat(61))).await.is_ok());
    // Without an end: the bound is met before the deadline.
    assert_bad(&"HTTP/1.1 101 X\r\nX: ".chars().chain(['x'; 40_000]).collect::<String>()).await;
}

#[tokio::test]
async fn rfc_h28_h29_bm15_malformed_heads_are_refused() {
    for said in [
        "HTTP/1.1 101 X\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 101 X\r\nX : a\r\n\r\n",
        "HTTP/1.1 101 X\r\nX\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 1000 X\r\n\r\n",
        "HTTP/2.0 101 X\r\n\r\n",
        "hello\n\n\n\n\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        assert_bad(said).await;
    }
}

#[tokio::test]
async fn bm16_a_refusal_framed_twice_is_refused() {
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!").await;
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: x\r\n\r\nhello!").await;
}

#[tokio::test]
async fn bm18_an_end_before_the_answer_is_refused() {
    for said in ["", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso"] {
        let script = async |stream: &mut TcpStream| {
            reply(stream, said.as_bytes()).await;
            stream.shutdown().await.unwrap();
        };
        let (asked, backend) = ask_with("", Compression::Strip, LIMIT, script).await;
        let Err(NotUpgraded::Refused(refusal)) = asked else { panic!("{asked:?}") };
        assert_eq!(refusal, Refusal::BackendBad("the connection ended before the answer"));
        backend.health.failed(Instant::now());
        assert!(backend.health.failed(Instant::now()).is_none(), "only refused connects count");
    }
}

#[tokio::test]
async fn uh29_a_client_that_leaves_takes_the_backend_connection_along() {
    let head = opening("");
    let Ok(Asked::WebSocket(handshake)) = Asked::read(&head) else { panic!() };
    let (dialled, mut stream) = connected().await;
    let guest = guest();
    let introduction = guest.introduction();
    {
        let asked = upgrade(dialled, &head, &handshake, &introduction, Compression::Strip, LIMIT);
        tokio::select! {
            biased;
            _ = asked => panic!("nobody answered"),
            _ = read_head(&mut stream) => {}
        }
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

/// The example of RFC 6455 1.3.
#[test]
fn accept_key_matches_rfc_example() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
