//! `route.hsts`: the policy in every response of the route over TLS.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::head::{get, with_lines};
use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, RawResponse, connect, read_response, read_to_end, route,
    switching_protocols,
};

const FIELD: &str = "strict-transport-security";
const YEAR: &str = "max-age=31536000";

/// A backend that upgrades, declines or answers, always with a policy of its own.
async fn backend_with_policy() -> Backend {
    Backend::raw(|head, mut stream, _| async move {
        let more =
            "Strict-Transport-Security: max-age=1\r\nStrict-Transport-Security: max-age=2\r\n";
        let response = if head.starts_with("GET /no ") {
            format!("HTTP/1.1 403 Forbidden\r\n{more}Content-Length: 0\r\n\r\n")
        } else if head.starts_with("GET /invalid ") {
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned()
        } else if head.to_ascii_lowercase().contains("sec-websocket-key") {
            switching_protocols(&head).replacen("\r\n", &format!("\r\n{more}"), 1)
        } else {
            format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok")
        };
        stream.write_all(response.as_bytes()).await.unwrap();
        if response.contains(" 101 ") {
            read_to_end(&mut stream).await;
        }
    })
    .await
}

async fn over_tls(client: &Client, request: &str) -> RawResponse {
    let mut stream = BufReader::new(client.connect_tls().await);
    stream.write_all(request.as_bytes()).await.unwrap();
    read_response(&mut stream).await
}

#[tokio::test]
async fn every_response_over_tls_has_the_policy() {
    let backend = backend_with_policy().await;
    let keys = "path = \"/\"\nhsts = \"1y\"\n[trusted_proxies]\naddresses = [\"127.0.0.2\"]";
    let routes = route(&[backend.address], keys).replace("[\"*\"]", "[\"missing\"]");
    let routes = routes.replace("host = \"*\"", "host = \"localhost\"");
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    let own = with_lines("Origin: https://elsewhere.example");
    for (request, status) in [
        (get("/"), 200),
        (HANDSHAKE.to_owned(), 101),
        (HANDSHAKE.replace("/ws", "/no"), 403),
        // The proxy's own responses.
        (get("/invalid"), 502),
        (own, 403),
        (
            get("/")
                .replace("GET", "POST")
                .replace("\r\n\r\n", "\r\nContent-Length: 1\r\nExpect: x\r\n\r\n"),
            417,
        ),
    ] {
        let secure = over_tls(&client, &request).await;
        // Before the route is known, no policy is.
        let expected = if status == 417 { "" } else { YEAR };
        assert_eq!((secure.status, &*secure.all(FIELD)), (status, expected), "{request}");
        let plain = client.request(request.as_bytes()).await;
        assert!(plain.status == status && !plain.all(FIELD).contains(YEAR), "{plain:?}");
    }
    let unknown = over_tls(&client, &get("/").replace("localhost", "127.0.0.1")).await;
    assert_eq!((unknown.status, unknown.header(FIELD)), (404, None));
    // TLS up to a trusted proxy in front.
    let mut stream = BufReader::new(connect([127, 0, 0, 2], client.plain).await);
    let lines = "\r\nX-Forwarded-Proto: https\r\n\r\n";
    stream.write_all(get("/").replace("\r\n\r\n", lines).as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await.all(FIELD), YEAR);
}

#[tokio::test]
async fn without_the_key_the_application_decides() {
    let backend = backend_with_policy().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    assert_eq!(over_tls(&client, &get("/")).await.all(FIELD), "max-age=1, max-age=2");
    assert_eq!(over_tls(&client, &get("/invalid")).await.header(FIELD), None);
}
