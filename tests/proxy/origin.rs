//! The origin allow-list: which web pages may open WebSockets (RFC 6455 10.2).

use crate::support::head::with_lines;
use crate::support::{Backend, Client, Proxy, route};

/// A proxy for `chat.example` with a list of allowed origins.
struct Guarded {
    backend: Backend,
    proxy: Proxy,
    client: Client,
}

impl Guarded {
    async fn allowing(origins: &str) -> Self {
        let backend = Backend::echo().await;
        let config = route(&[backend.address], "").replace("[\"*\"]", origins);
        let proxy = Proxy::start(&config).await;
        let client = Client::new(&proxy).await;
        Self { backend, proxy, client }
    }

    /// The status of a handshake with these field lines.
    async fn status(&self, host: &str, lines: &str) -> u16 {
        let sent = with_lines(lines).replacen("localhost", host, 1);
        self.client.ask(sent.as_bytes()).await.status
    }

    /// Connects from each origin; `allowed` ones must succeed and `rejected` ones must get 403.
    async fn check(&self, allowed: &[&str], rejected: &[&str]) {
        for (origins, expected) in [(allowed, 101), (rejected, 403)] {
            for origin in origins {
                let status = self.status("chat.example", &format!("Origin: {origin}")).await;
                assert_eq!(status, expected, "{origin}");
            }
        }
        for n in 1..=rejected.len() {
            let record =
                self.proxy.nth_record("refusal", n, |record| record["event"] == "rejected").await;
            assert_eq!(record["end"], "origin", "{record}");
            assert_eq!(record["key"], "route.origins");
            assert_eq!(record["status"], 403);
            assert_eq!(record["route"], "all");
            // The part before an `@` may be a password.
            let shown = rejected[n - 1].rsplit_once('@');
            let shown = shown.map(|(_, host)| format!("[redacted]@{host}"));
            assert_eq!(record["origin"], shown.as_deref().unwrap_or(rejected[n - 1]));
        }
        assert_eq!(self.backend.heads().len(), allowed.len());
    }
}

// Requirements: UH17, UH18, UH20.
#[tokio::test]
async fn exact_origin_matches_only_itself() {
    let guarded = Guarded::allowing("[\"https://good.example\"]").await;
    guarded
        .check(
            &["https://good.example", "HTTPS://Good.EXAMPLE", "https://good.example:443"],
            &[
                "http://good.example",
                "https://good.example:8443",
                "https://good.example.evil.com",
                "https://evilgood.example",
                "https://a.good.example",
                "https://good.example/",
                "https://good.example/path",
                "https://good.example?",
                "https://u@good.example",
                "https://good.example:",
                "https://good.example https://evil.example",
                "https://good.example, https://good.example",
                "https://good%2eexample",
                "https:good.example",
                "//good.example",
                "good.example",
                "https://",
                "file://",
                "null",
                "NULL",
                "*",
                "https://*",
            ],
        )
        .await;
}

// Requirements: UH17.
#[tokio::test]
async fn wildcard_matches_subdomains_but_not_the_apex() {
    let guarded = Guarded::allowing("[\"https://*.good.example\"]").await;
    guarded
        .check(
            &["https://a.good.example", "https://a.b.good.example", "https://A.Good.Example:443"],
            &[
                "https://good.example",
                "https://.good.example",
                "https://evilgood.example",
                "https://a.good.example.evil.com",
                "https://*.good.example",
                "http://a.good.example",
                "https://a.good.example:444",
            ],
        )
        .await;
}

// Requirements: UH18.
#[tokio::test]
async fn same_origin_compares_scheme_host_and_port() {
    let guarded = Guarded::allowing("[\"same-origin\"]").await;
    // The plain listener is `http`, on the default port if Host has none.
    guarded
        .check(
            &["http://chat.example", "http://CHAT.example:80"],
            &[
                "https://chat.example",
                "http://chat.example:8080",
                "http://a.chat.example",
                "http://localhost",
                "null",
            ],
        )
        .await;
    assert_eq!(guarded.status("chat.example:8080", "Origin: http://chat.example:8080").await, 101);
    assert_eq!(guarded.status("chat.example:8080", "Origin: http://chat.example").await, 403);
    assert_eq!(guarded.status("[::1]:9", "Origin: http://[0:0::1]:9").await, 101);
}

// Requirements: UH20.
#[tokio::test]
async fn same_origin_is_https_over_tls() {
    let guarded = Guarded::allowing("[\"same-origin\"]").await;
    let client = &guarded.client;
    assert!(client.websocket("/ws", &[("origin", "https://localhost")]).await.is_ok());
    for foreign in ["http://localhost", "https://localhost:8443", "https://evil.example"] {
        match client.websocket("/ws", &[("origin", foreign)]).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                assert_eq!(answer.status(), 403, "{foreign}");
            }
            other => panic!("{foreign}: {:?}", other.map(|(_, answer)| answer)),
        }
    }
}

// Requirements: UH15, UH16.
#[tokio::test]
async fn missing_and_null_are_separate_choices() {
    for (origins, missing, null, page) in [
        ("[\"https://good.example\"]", 403, 403, 101),
        ("[\"missing\"]", 101, 403, 403),
        ("[\"null\"]", 403, 101, 403),
        ("[\"https://good.example\", \"missing\", \"null\"]", 101, 101, 101),
        ("[\"same-origin\"]", 403, 403, 403),
        ("[\"*\"]", 101, 101, 101),
    ] {
        let guarded = Guarded::allowing(origins).await;
        assert_eq!(guarded.status("chat.example", "X: y").await, missing, "{origins}");
        assert_eq!(guarded.status("chat.example", "Origin: null").await, null, "{origins}");
        let status = guarded.status("chat.example", "Origin: https://good.example").await;
        assert_eq!(status, page, "{origins}");
    }
}

// Requirements: UH21.
#[tokio::test]
async fn names_are_compared_in_punycode() {
    let guarded = Guarded::allowing("[\"https://xn--bcher-kva.example\"]").await;
    assert_eq!(guarded.status("a", "Origin: https://xn--bcher-kva.example").await, 101);
    assert_eq!(guarded.status("a", "Origin: https://XN--BCHER-KVA.example").await, 101);
    assert_eq!(guarded.status("a", "Origin: https://b\u{fc}cher.example").await, 400);
}

// Requirements: UH19.
#[tokio::test]
async fn malformed_origin_is_always_rejected() {
    let guarded = Guarded::allowing("[\"*\"]").await;
    let lines = [
        "Origin: https://good.example\r\nOrigin: https://good.example",
        "Origin: https://good.example\r\nOrigin: https://evil.example",
        "Origin: null\r\norigin:",
        "Origin: https://good\texample",
        "Origin: https://good.example\u{e9}",
    ];
    for (n, line) in lines.into_iter().enumerate() {
        assert_eq!(guarded.status("chat.example", line).await, 400, "{line}");
        let record = guarded.proxy.nth_outcome(n + 1).await;
        assert_eq!(record["end"], "handshake_invalid", "{line}");
        assert_eq!(record["key"], serde_json::Value::Null);
    }
    // Bytes that no field value may contain are rejected by the parser.
    for line in ["Origin: a\x01b", "Origin: a\0", "Origin: a\x7f"] {
        assert_eq!(guarded.status("chat.example", line).await, 400, "{line:?}");
    }
    assert_eq!(guarded.backend.heads().len(), 0);
}

#[tokio::test]
async fn rejected_page_gets_only_the_status() {
    let guarded = Guarded::allowing("[\"same-origin\"]").await;
    let sent = with_lines("Origin: https://evil.example");
    let answer = guarded.client.ask(sent.as_bytes()).await;
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    for name in ["access-control-allow-origin", "sec-websocket-accept", "upgrade", "retry-after"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    // Origins of plain requests are left to the application, which handles CORS itself.
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n";
    let status = guarded.client.ask(plain.as_bytes()).await.status;
    assert_ne!(status, 403);
}
