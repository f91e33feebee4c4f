//! Empty list members, empty lists and fields that occur repeatedly with the same value.

use crate::support::head::{assert_rejected, get, replacing, to_cases, with_lines};
use crate::support::{
    Backend, Client, Proxy, RawResponse, read_to_end, route, switching_protocols,
};
use tokio::io::AsyncWriteExt;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// Sends a handshake; returns the head that the backend received, and the client's response.
async fn forwarded(sent: &str, answer: &'static str) -> (RawResponse, RawResponse) {
    let backend = Backend::raw(move |head, mut stream, _| async move {
        let response = switching_protocols(&head).replacen("\r\n", &format!("\r\n{answer}"), 1);
        stream.write_all(response.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let routes = route(&[backend.address], "").replace("[\"*\"]", "[\"https://good.example\"]");
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    let response = client.request(sent.as_bytes()).await;
    assert_eq!(response.status, 101, "{sent:?}: {response:?} {:#?}", proxy.outcomes());
    let [head] = backend.heads().try_into().unwrap();
    (RawResponse { status: 0, head }, response)
}

fn with_origin(lines: &str) -> String {
    with_lines(&format!("Origin: https://good.example\r\n{lines}"))
}

// Requirements: UH22, UH23.
#[tokio::test]
async fn empty_list_members_are_not_forwarded() {
    let protocol = "Sec-WebSocket-Protocol";
    let extensions = "Sec-WebSocket-Extensions";
    let deflate = "permessage-deflate; client_max_window_bits";
    for (lines, protocols, offered) in [
        (format!("{protocol}: a, b,"), "a, b", ""),
        (format!("{protocol}: ,a,, b\r\n{protocol}:"), "a, b", ""),
        (format!("{protocol}:\r\n{extensions}:"), "", ""),
        (format!("{protocol}: ,\r\n{extensions}: , ,"), "", ""),
        (format!("{extensions}: ,{deflate},,"), "", deflate),
        (format!("{extensions}:\r\n{extensions}: {deflate}"), "", deflate),
    ] {
        let (head, _) = forwarded(&with_origin(&lines), "").await;
        let count = head.head.to_lowercase().matches("sec-websocket-protocol").count();
        assert_eq!(count, usize::from(!protocols.is_empty()), "{lines:?}: {head:?}");
        assert_eq!(head.all(protocol), protocols, "{lines:?}");
        assert_eq!(head.all(extensions), offered, "{lines:?}");
    }
}

// Requirements: UH07, UH08, UH09, UH19, UH23.
#[tokio::test]
async fn equal_fields_reach_the_backend_once() {
    let sent = with_origin(&format!(
        "Origin: https://good.example\r\n{KEY}\r\nSec-WebSocket-Version: 13\r\n\
         Upgrade: websocket\r\nConnection: upgrade,, keep-alive,"
    ));
    let (head, response) = forwarded(&sent, "").await;
    for (name, value) in [
        ("origin", "https://good.example"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
    ] {
        assert_eq!(head.all(name), value, "{head:?}");
    }
    assert_eq!(response.all("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

// Requirements: UH23.
#[tokio::test]
async fn equal_fields_reach_the_client_once() {
    let answer = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nUpgrade: websocket,\r\n\
                  Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n\
                  Sec-WebSocket-Extensions:\r\n";
    let (_, response) = forwarded(&with_origin("Sec-WebSocket-Protocol: a"), answer).await;
    for (name, value) in [
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "a"),
    ] {
        assert_eq!(response.all(name), value, "{response:?}");
    }
    assert_eq!(response.header("sec-websocket-extensions"), None);
}

// Requirements: UH23, W9.
#[tokio::test]
async fn empty_selection_of_a_subprotocol_is_none() {
    for offer in ["X: y", "Sec-WebSocket-Protocol: a"] {
        let answer = "Sec-WebSocket-Protocol:\r\nSec-WebSocket-Extensions: ,\r\n";
        let (_, response) = forwarded(&with_origin(offer), answer).await;
        assert_eq!(response.header("sec-websocket-protocol"), None, "{response:?}");
        assert_eq!(response.header("sec-websocket-extensions"), None, "{response:?}");
    }
}

/// Where parties that read the lines differently would disagree, strictness protects: about the
/// host, the length, and the origin that was checked.
// Requirements: UH11, UH19, RL16, RL31.
#[tokio::test]
async fn ambiguous_repetition_is_rejected() {
    let plain = |lines: &str| get("/").replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
    let chunked = "Transfer-Encoding: chunked";
    let mut cases = to_cases(
        [plain("Host: localhost"), plain(&format!("{chunked}\r\n{chunked}")) + "0\r\n\r\n"],
        400,
        "request_invalid",
    );
    cases.extend(to_cases(
        [
            plain(&format!("{chunked},")) + "0\r\n\r\n",
            plain(&format!("{chunked}\r\nTransfer-Encoding:")) + "0\r\n\r\n",
        ],
        400,
        "head_invalid",
    ));
    cases.extend(to_cases(
        [
            with_lines("Content-Length: 0\r\nContent-Length: 0"),
            with_lines("Origin: https://a\r\nOrigin: https://b"),
            with_lines("Origin: https://a\r\nOrigin:"),
            replacing("Sec-WebSocket-Key", &format!("{KEY}\r\nSec-WebSocket-Key: x")),
        ],
        400,
        "handshake_invalid",
    ));
    assert_rejected(cases).await;
}
