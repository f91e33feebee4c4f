use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::*;
use crate::http::RequestKind;
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
) -> (Result<UpgradedBackend, UpgradeFailure>, Arc<Backend>) {
    let head = opening(lines);
    let Ok(RequestKind::WebSocket(handshake)) = RequestKind::read(&head) else { panic!("{lines}") };
    let (dialled, mut stream) = connected().await;
    let backend = Arc::clone(&dialled.backend);
    let guest = guest();
    let introduction = guest.introduction();
    let asked = sendable(upgrade(dialled, &head, &handshake, &introduction, compression, limit));
    (tokio::join!(asked, script(&mut stream)).0, backend)
}

/// Asks a backend that says this and then holds the connection.
async fn ask(said: &str) -> Result<UpgradedBackend, UpgradeFailure> {
    let lines = "Sec-WebSocket-Protocol: chat, v2\nSec-WebSocket-Extensions: permessage-deflate\n";
    let script = async |stream: &mut TcpStream| {
        reply(stream, said.as_bytes()).await;
    };
    ask_with(lines, Compression::Pass, LIMIT, script).await.0
}

async fn assert_bad(said: &str) {
    match ask(said).await {
        Err(UpgradeFailure::Refused(RejectReason::BackendHandshakeInvalid(_))) => {}
        other => panic!("{said}: {other:?}"),
    }
}

async fn bodied(response: Response<Full<Bytes>>) -> Bytes {
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes()
}

// Requirements: W7, W13.
#[tokio::test]
async fn valid_101_opens_the_tunnel() {
    let upgraded = ask(&yes("Set-Cookie: a=1\r\nSec-WebSocket-Protocol: v2\r\n")).await.unwrap();
    assert_eq!(upgraded.subprotocol.as_deref(), Some("v2"));
    assert_eq!((upgraded.deflate, upgraded.early.len()), (DeflateMode::Off, 0));
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

// Requirements: BM12.
#[tokio::test]
async fn keeps_frames_that_arrive_with_the_101() {
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
    let Ok(RequestKind::WebSocket(handshake)) = RequestKind::read(&head) else { panic!() };
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

// Requirements: BM03.
#[tokio::test]
async fn silent_backend_times_out() {
    let hold = async |stream: &mut TcpStream| {
        read_head(stream).await;
        let _ = stream.read(&mut [0; 1]).await;
    };
    let limit = Duration::from_millis(50);
    let (asked, backend) = ask_with("", Compression::Strip, limit, hold).await;
    let Err(UpgradeFailure::Refused(refusal)) = asked else { panic!("{asked:?}") };
    assert_eq!(refusal, RejectReason::ResponseTimeout);
    assert_eq!(refusal.key(), Some("timeouts.response_header"));
    // A slow answer is not counted: two failures are not the third.
    backend.health.failed(Instant::now());
    assert!(backend.health.failed(Instant::now()).is_none());
}

// Requirements: BM04.
#[tokio::test]
async fn deadline_covers_the_whole_response_head() {
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
    assert!(
        matches!(asked, Err(UpgradeFailure::Refused(RejectReason::ResponseTimeout))),
        "{asked:?}"
    );
}

// Requirements: W15, BM05.
#[tokio::test]
async fn relays_the_backend_rejection() {
    for status in ["301 Moved", "401 Unauthorized", "403 No", "404 Not Found", "426 Up", "500 Oh"] {
        let said = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\nLocation: /login\r\n\
             WWW-Authenticate: Basic\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nno!\n"
        );
        let Err(UpgradeFailure::Answer(answer)) = ask(&said).await else { panic!("{status}") };
        assert_eq!(answer.status().as_str(), &status[..3]);
        assert_eq!(answer.headers()["location"], "/login");
        assert_eq!(answer.headers()["www-authenticate"], "Basic");
        assert!(answer.headers()["connection"].to_str().unwrap().starts_with("close"));
        assert!(!answer.headers().contains_key("x-hop"));
        assert_eq!(answer.headers().contains_key("upgrade"), status.starts_with("426"));
        assert_eq!(&bodied(answer).await[..], b"no!\n");
    }
}

// Requirements: BM05.
#[tokio::test]
async fn rejection_body_is_bounded_in_size_and_time() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, b"HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n").await;
        let _ = stream.write_all(&[b'x'; 200_000]).await;
    };
    let (asked, _) = ask_with("", Compression::Strip, LIMIT, script).await;
    let Err(UpgradeFailure::Answer(answer)) = asked else { panic!("{asked:?}") };
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(bodied(answer).await.len(), 64 * 1024);

    let script = async |stream: &mut TcpStream| {
        reply(stream, b"HTTP/1.1 403 No\r\n\r\nstart").await;
        let _ = stream.read(&mut [0; 1]).await;
    };
    let limit = Duration::from_millis(100);
    let (asked, _) = ask_with("", Compression::Strip, limit, script).await;
    let Err(UpgradeFailure::Answer(answer)) = asked else { panic!("{asked:?}") };
    assert_eq!(&bodied(answer).await[..], b"start");
}

// Requirements: BM05.
#[tokio::test]
async fn rejects_success_status_without_upgrade() {
    for status in ["200 OK", "204 No Content", "206 Partial Content", "299 X", "600 X", "999 X"] {
        assert_bad(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
    }
}

// Requirements: W7, BM06.
#[tokio::test]
async fn rejects_every_invalid_101() {
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

// Requirements: H32, BM07, BM08.
#[tokio::test]
async fn rejects_101_with_body_or_http_1_0() {
    assert_bad(&yes("Content-Length: 5\r\n")).await;
    assert_bad(&yes("Content-Length: 0\r\n")).await;
    assert_bad(&yes("Transfer-Encoding: chunked\r\n")).await;
    assert_bad(&yes("").replace("HTTP/1.1", "HTTP/1.0")).await;
}

// Requirements: W8, W9, BM10, BM11.
#[tokio::test]
async fn rejects_choices_that_were_not_offered() {
    for (compression, deflate, told) in [
        (Compression::Pass, DeflateMode::Pass, "permessage-deflate"),
        (
            Compression::Inspect,
            DeflateMode::Inspect,
            "permessage-deflate; client_no_context_takeover",
        ),
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

// Requirements: W14.
#[tokio::test]
async fn rejects_accepting_an_offer_that_was_stripped() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, yes("Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes()).await;
    };
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\n";
    let (asked, _) = ask_with(lines, Compression::Strip, LIMIT, script).await;
    assert!(
        matches!(asked, Err(UpgradeFailure::Refused(RejectReason::BackendHandshakeInvalid(_)))),
        "{asked:?}"
    );
}

// Requirements: H11, BM13.
#[tokio::test]
async fn skips_at_most_eight_interim_responses() {
    let hints = |count| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
    assert!(ask(&format!("{}{}", hints(8), yes(""))).await.is_ok());
    assert_bad(&format!("{}{}", hints(9), yes(""))).await;
    assert_bad(&hints(1000)).await;
}

// Requirements: BM14.
#[tokio::test]
async fn rejects_large_response_heads() {
    assert_bad(&yes(&format!("X: {}\r\n", "x".repeat(17 * 1024)))).await;
    assert_bad(&yes(&"X: 1\r\n".repeat(62))).await;
    assert!(ask(&yes(&"X: 1\r\n".repeat(61))).await.is_ok());
    // Without an end: the bound is met before the deadline.
    assert_bad(&"HTTP/1.1 101 X\r\nX: ".chars().chain(['x'; 40_000]).collect::<String>()).await;
}

// Requirements: H28, H29, BM15.
#[tokio::test]
async fn rejects_malformed_response_heads() {
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

// Requirements: BM16.
#[tokio::test]
async fn rejects_a_rejection_with_conflicting_framing() {
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!").await;
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: x\r\n\r\nhello!").await;
}

// Requirements: BM18.
#[tokio::test]
async fn rejects_eof_before_the_response() {
    for said in ["", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso"] {
        let script = async |stream: &mut TcpStream| {
            reply(stream, said.as_bytes()).await;
            stream.shutdown().await.unwrap();
        };
        let (asked, backend) = ask_with("", Compression::Strip, LIMIT, script).await;
        let Err(UpgradeFailure::Refused(refusal)) = asked else { panic!("{asked:?}") };
        assert_eq!(
            refusal,
            RejectReason::BackendHandshakeInvalid("the connection ended before the answer")
        );
        backend.health.failed(Instant::now());
        assert!(backend.health.failed(Instant::now()).is_none(), "only refused connects count");
    }
}

// Requirements: UH29.
#[tokio::test]
async fn client_disconnect_closes_the_backend_connection() {
    let head = opening("");
    let Ok(RequestKind::WebSocket(handshake)) = RequestKind::read(&head) else { panic!() };
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
