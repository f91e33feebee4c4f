use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;
use ws::PerSide;

use super::*;
use crate::config::settings::Compression;
use crate::http::ValidatedRequest;
use crate::http::sample::opening;
use crate::telemetry::metrics::backend_state::BackendState;
use crate::upstream::pool::Backend;
use crate::upstream::scripted::{assert_send, connected, direct_request, read_head, reply};

const LIMIT: Duration = Duration::from_secs(5);

/// The accept value of the key in [`opening`] (RFC 6455 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A valid 101 with these additional header lines.
fn switching(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

fn options(compression: Compression, limit: Duration, idle: Duration) -> UpgradeOptions {
    let policy = NegotiationPolicy { compression, strict: Strictness::Enforce };
    UpgradeOptions { policy, limit, idle }
}

/// Sends a handshake with these additional header lines to a scripted backend that keeps the
/// connection open.
async fn upgrade_with<Script: AsyncFnOnce(&mut TcpStream)>(
    lines: &str,
    compression: Compression,
    limit: Duration,
    script: Script,
) -> (Result<UpgradedBackend, UpgradeFailure>, Arc<Backend>) {
    let mut head = opening(lines);
    let Ok(ValidatedRequest::WebSocket(handshake)) = ValidatedRequest::validate(&head) else {
        panic!("{lines}")
    };
    let (connection, mut stream) = connected().await;
    let backend = Arc::clone(&connection.1.backend);
    let scripted = direct_request();
    let headers = scripted.headers();
    let upgrading = upgrade(
        connection,
        &mut head,
        &handshake,
        &headers,
        options(compression, limit, limit),
        &|_| {},
    );
    (tokio::join!(assert_send(upgrading), script(&mut stream)).0, backend)
}

/// Sends a handshake to a backend that sends `response` and keeps the connection open.
async fn upgrade_from(response: &str) -> Result<UpgradedBackend, UpgradeFailure> {
    let lines = "Sec-WebSocket-Protocol: chat, v2\nSec-WebSocket-Extensions: permessage-deflate\n";
    let script = async |stream: &mut TcpStream| {
        reply(stream, response.as_bytes()).await;
    };
    upgrade_with(lines, Compression::Pass, LIMIT, script).await.0
}

async fn assert_bad(response: &str) {
    match upgrade_from(response).await {
        Err(UpgradeFailure::Rejected(RejectReason::BackendHandshakeInvalid(_))) => {}
        other => panic!("{response}: {other:?}"),
    }
}

// Requirements: W7, W13.
#[tokio::test]
async fn valid_101_opens_the_tunnel() {
    let upgraded = upgrade_from(&switching("Set-Cookie: a=1\r\nSec-WebSocket-Protocol: v2\r\n"))
        .await
        .unwrap();
    assert_eq!(upgraded.subprotocol.as_ref().map(|s| &*s.name), Some("v2"));
    assert_eq!((upgraded.deflate, upgraded.after_head.len()), (DeflateMode::Off, 0));
    let headers = upgraded.response.headers();
    assert_eq!(upgraded.response.status(), 101);
    assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], ACCEPT);
    assert_eq!(headers["sec-websocket-protocol"], "v2");
    assert_eq!(headers["set-cookie"], "a=1");
    assert_eq!(headers["connection"], "Upgrade");
}

#[tokio::test]
async fn backend_receives_a_regenerated_head() {
    let lines = "Origin: https://a\nX_Evil: 1\nConnection: X-Hop\nX-Hop: 1\n\
                 Sec-WebSocket-Extensions: permessage-deflate\n";
    let script = async |stream: &mut TcpStream| {
        let head = reply(stream, switching("").as_bytes()).await;
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("GET /chat?room=1 HTTP/1.1"));
        let expected = [
            "Host: example.com",
            "Origin: https://a",
            "Cdn-Loop: tidegate",
            "X-Forwarded-For: 203.0.113.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: example.com",
            "X-Forwarded-Port: 443",
            "X-Real-Ip: 203.0.113.7",
            "X-Request-Id: 0123",
            "Sec-Websocket-Version: 13",
            "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "",
            "",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    };
    upgrade_with(lines, Compression::Strip, LIMIT, script).await.0.unwrap();
}

// Requirements: BM12.
#[tokio::test]
async fn keeps_frames_that_arrive_with_the_101() {
    let mut response = switching("").into_bytes();
    response.extend_from_slice(b"\x81\x02hi");
    let script = async |stream: &mut TcpStream| {
        reply(stream, &response).await;
        stream.write_all(b"\x81\x01!").await.unwrap();
        let mut received = [0; 2];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"yo");
    };
    let mut head = opening("");
    let Ok(ValidatedRequest::WebSocket(handshake)) = ValidatedRequest::validate(&head) else {
        panic!()
    };
    let (connection, mut stream) = connected().await;
    let scripted = direct_request();
    let headers = scripted.headers();
    let client = async {
        let upgrading = upgrade(
            connection,
            &mut head,
            &handshake,
            &headers,
            options(Compression::Strip, LIMIT, LIMIT),
            &|_| {},
        );
        let mut upgraded = upgrading.await.unwrap();
        let mut received = upgraded.after_head.to_vec();
        while received.len() < 7 {
            upgraded.stream.read_buf(&mut received).await.unwrap();
        }
        assert_eq!(received, b"\x81\x02hi\x81\x01!");
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
    let (result, backend) = upgrade_with("", Compression::Strip, limit, hold).await;
    let Err(UpgradeFailure::Rejected(reason)) = result else { panic!("{result:?}") };
    assert_eq!(reason, RejectReason::ResponseTimeout);
    assert_eq!(reason.key(), Some("timeouts.response_header"));
    assert_eq!(backend.state(), BackendState::Untried, "only connection attempts count");
}

// Requirements: BM04.
#[tokio::test]
async fn deadline_covers_the_whole_response_head() {
    let drip = async |stream: &mut TcpStream| {
        read_head(stream).await;
        for byte in switching("").bytes() {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_millis(100);
    let (result, _) = upgrade_with("", Compression::Strip, limit, drip).await;
    assert!(
        matches!(result, Err(UpgradeFailure::Rejected(RejectReason::ResponseTimeout))),
        "{result:?}"
    );
}

// Requirements: W7, BM06.
#[tokio::test]
async fn rejects_every_invalid_101() {
    let valid = switching("");
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
        assert!(valid.contains(from));
        assert_bad(&valid.replace(from, to)).await;
    }
}

// Requirements: BM08.
#[tokio::test]
async fn rejects_101_in_http_1_0() {
    assert_bad(&switching("").replace("HTTP/1.1", "HTTP/1.0")).await;
}

// Requirements: H32, BM07.
#[tokio::test]
async fn framing_fields_of_a_101_are_ignored() {
    for lines in [
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: x",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: chunked",
        "Content-Length: 7\r\nTransfer-Encoding: gzip, chunked",
    ] {
        let upgraded = upgrade_from(&switching(&format!("{lines}\r\n"))).await.unwrap();
        let headers = upgraded.response.headers();
        for name in ["content-length", "transfer-encoding"] {
            assert!(!headers.contains_key(name), "{lines}: {headers:?}");
        }
    }
}

// Requirements: W8, W9, BM10, BM11.
#[tokio::test]
async fn rejects_choices_that_were_not_offered() {
    let context_takeover = PerSide { client: true, backend: true };
    for (compression, deflate) in [
        (Compression::Pass, DeflateMode::Pass),
        (Compression::Inspect, DeflateMode::Inspect { context_takeover }),
    ] {
        let line = "Sec-WebSocket-Extensions: permessage-deflate";
        let script = async |stream: &mut TcpStream| {
            reply(stream, switching(&format!("{line}\r\n")).as_bytes()).await;
        };
        let lines = format!("{line}\n");
        let upgraded = upgrade_with(&lines, compression, LIMIT, script).await.0.unwrap();
        assert_eq!(upgraded.deflate, deflate);
        let selected = &upgraded.response.headers()["sec-websocket-extensions"];
        assert_eq!(selected, "permessage-deflate");
    }
    for line in [
        "Sec-WebSocket-Extensions: x-unknown",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16",
        "Sec-WebSocket-Extensions: permessage-deflate;",
        "Sec-WebSocket-Protocol: v3",
        "Sec-WebSocket-Protocol: chat, v2",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: v2",
    ] {
        assert_bad(&switching(&format!("{line}\r\n"))).await;
    }
}

// Requirements: W14.
#[tokio::test]
async fn rejects_accepting_an_offer_that_was_stripped() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, switching("Sec-WebSocket-Extensions: permessage-deflate\r\n").as_bytes())
            .await;
    };
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\n";
    let (result, _) = upgrade_with(lines, Compression::Strip, LIMIT, script).await;
    assert!(
        matches!(result, Err(UpgradeFailure::Rejected(RejectReason::BackendHandshakeInvalid(_)))),
        "{result:?}"
    );
}

// Requirements: H11, BM13.
#[tokio::test]
async fn accepts_a_hundred_interim_responses() {
    let hints = |count| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
    assert!(upgrade_from(&format!("{}{}", hints(100), switching(""))).await.is_ok());
    assert_bad(&format!("{}{}", hints(101), switching(""))).await;
    assert_bad(&hints(1000)).await;
}

// Requirements: BM14.
#[tokio::test]
async fn rejects_large_response_heads() {
    assert_bad(&switching(&format!("X: {}\r\n", "x".repeat(33 * 1024)))).await;
    assert_bad(&switching(&"X: 1\r\n".repeat(98))).await;
    assert!(upgrade_from(&switching(&"X: 1\r\n".repeat(97))).await.is_ok());
    // A head without an end is rejected at the size limit, before the deadline.
    assert_bad(&"HTTP/1.1 101 X\r\nX: ".chars().chain(['x'; 40_000]).collect::<String>()).await;
}

// Requirements: BM15.
#[tokio::test]
async fn rejects_malformed_response_heads() {
    for response in [
        "HTTP/1.1 101 X\r\nX\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 1000 X\r\n\r\n",
        "HTTP/2.0 101 X\r\n\r\n",
        "hello\n\n\n\n\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
    ] {
        assert_bad(response).await;
    }
}

// Requirements: BM18.
#[tokio::test]
async fn rejects_eof_before_the_response() {
    for response in ["", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso"] {
        let script = async |stream: &mut TcpStream| {
            reply(stream, response.as_bytes()).await;
            stream.shutdown().await.unwrap();
        };
        let (result, backend) = upgrade_with("", Compression::Strip, LIMIT, script).await;
        let Err(UpgradeFailure::Rejected(reason)) = result else { panic!("{result:?}") };
        assert_eq!(
            reason,
            RejectReason::BackendHandshakeInvalid("the connection was closed before the response")
        );
        assert_eq!(backend.state(), BackendState::Untried, "only connection attempts count");
    }
}

// Requirements: UH29.
#[tokio::test]
async fn client_disconnect_closes_the_backend_connection() {
    let mut head = opening("");
    let Ok(ValidatedRequest::WebSocket(handshake)) = ValidatedRequest::validate(&head) else {
        panic!()
    };
    let (connection, mut stream) = connected().await;
    let scripted = direct_request();
    let headers = scripted.headers();
    {
        let upgrading = upgrade(
            connection,
            &mut head,
            &handshake,
            &headers,
            options(Compression::Strip, LIMIT, LIMIT),
            &|_| {},
        );
        tokio::select! {
            biased;
            _ = upgrading => panic!("the backend did not respond"),
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

mod declined;
