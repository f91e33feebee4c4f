//! The origin allow-list: which web pages may open WebSockets (RFC 6455 10.2).

use crate::support::head::with_lines;
use crate::support::{Backend, Client, Proxy, Record, route};

/// A proxy for `chat.example` with a list of allowed origins.
struct OriginProxy {
    backend: Backend,
    process: Proxy,
    client: Client,
}

impl OriginProxy {
    async fn allowing(origins: &str) -> Self {
        let backend = Backend::echo().await;
        let config = route(&[backend.address], "").replace("[\"*\"]", origins);
        let process = Proxy::start(&config).await;
        let client = Client::new(&process).await;
        Self { backend, process, client }
    }

    /// The status of a handshake with these field lines.
    async fn status(&self, host: &str, lines: &str) -> u16 {
        let sent = with_lines(lines).replacen("localhost", host, 1);
        self.client.request(sent.as_bytes()).await.status
    }

    /// Connects from each origin; `allowed` ones must succeed and `rejected` ones must get 403.
    async fn assert_origins(&self, allowed: &[&str], rejected: &[&str]) {
        for (origins, expected) in [(allowed, 101), (rejected, 403)] {
            for origin in origins {
                let status = self.status("chat.example", &format!("Origin: {origin}")).await;
                assert_eq!(status, expected, "{origin}");
            }
        }
        for n in 1..=rejected.len() {
            let record = self
                .process
                .nth_record("a rejection", n, |record| record["event"] == "rejected")
                .await;
            assert_eq!(record["end"], "origin", "{record}");
            let is_scheme = rejected[n - 1] == "https://chat.example";
            let key = if is_scheme { "trusted_proxies.addresses" } else { "route.origins" };
            assert_eq!(record["key"], key, "{record}");
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
    let proxy = OriginProxy::allowing("[\"https://good.example\"]").await;
    proxy
        .assert_origins(
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
    let proxy = OriginProxy::allowing("[\"https://*.good.example\"]").await;
    proxy
        .assert_origins(
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
    let proxy = OriginProxy::allowing("[\"same-origin\"]").await;
    // The plain listener is `http`, on the default port if Host has none.
    proxy
        .assert_origins(
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
    assert_eq!(proxy.status("chat.example:8080", "Origin: http://chat.example:8080").await, 101);
    assert_eq!(proxy.status("chat.example:8080", "Origin: http://chat.example").await, 403);
    assert_eq!(proxy.status("[::1]:9", "Origin: http://[0:0::1]:9").await, 101);
}

// Requirements: UH20.
#[tokio::test]
async fn same_origin_is_https_over_tls() {
    let proxy = OriginProxy::allowing("[\"same-origin\"]").await;
    let client = &proxy.client;
    assert!(client.websocket("/ws", &[("origin", "https://localhost")]).await.is_ok());
    for foreign in ["http://localhost", "https://localhost:8443", "https://evil.example"] {
        match client.websocket("/ws", &[("origin", foreign)]).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 403, "{foreign}");
            }
            other => panic!("{foreign}: {:?}", other.map(|(_, response)| response)),
        }
    }
}

// Requirements: UH15, UH16.
#[tokio::test]
async fn missing_and_null_must_be_allowed_separately() {
    for (origins, missing, null, page) in [
        ("[\"https://good.example\"]", 403, 403, 101),
        ("[\"missing\"]", 101, 403, 403),
        ("[\"null\"]", 403, 101, 403),
        ("[\"https://good.example\", \"missing\", \"null\"]", 101, 101, 101),
        ("[\"same-origin\"]", 403, 403, 403),
        ("[\"*\"]", 101, 101, 101),
    ] {
        let proxy = OriginProxy::allowing(origins).await;
        assert_eq!(proxy.status("chat.example", "X: y").await, missing, "{origins}");
        assert_eq!(proxy.status("chat.example", "Origin: null").await, null, "{origins}");
        let status = proxy.status("chat.example", "Origin: https://good.example").await;
        assert_eq!(status, page, "{origins}");
    }
}

// Requirements: UH21.
#[tokio::test]
async fn unicode_names_only_match_as_punycode() {
    let proxy = OriginProxy::allowing("[\"https://xn--bcher-kva.example\"]").await;
    assert_eq!(proxy.status("a", "Origin: https://xn--bcher-kva.example").await, 101);
    assert_eq!(proxy.status("a", "Origin: https://XN--BCHER-KVA.example").await, 101);
    assert_eq!(proxy.status("a", "Origin: https://b\u{fc}cher.example").await, 400);
}

// Requirements: UH19.
#[tokio::test]
async fn malformed_origin_is_always_rejected() {
    let proxy = OriginProxy::allowing("[\"*\"]").await;
    let lines = [
        "Origin: https://good.example\r\nOrigin: https://evil.example",
        "Origin: null\r\norigin:",
        "Origin: https://good\texample",
        "Origin: https://good.example\u{e9}",
    ];
    for (n, line) in lines.into_iter().enumerate() {
        assert_eq!(proxy.status("chat.example", line).await, 400, "{line}");
        let record = proxy.process.nth_end_record(n + 1).await;
        assert_eq!(record["end"], "handshake_invalid", "{line}");
        assert_eq!(record["key"], serde_json::Value::Null);
    }
    // Bytes that no field value may contain are rejected by the parser.
    for line in ["Origin: a\x01b", "Origin: a\0", "Origin: a\x7f"] {
        assert_eq!(proxy.status("chat.example", line).await, 400, "{line:?}");
    }
    assert_eq!(proxy.backend.heads().len(), 0);
}

// Requirements: UH38, UH39.
#[tokio::test]
async fn origins_of_devices_and_shells_can_be_listed() {
    let proxy = OriginProxy::allowing(
        "[\"file://\", \"http://192.168.1.9/path\", \"192.168.1.9:8080\", \"\", \"app://.\", \
         \"moz-extension://*\", \"chrome-extension://*\", \"vscode-webview://*\", \"https://a.b/\"]",
    )
    .await;
    proxy
        .assert_origins(
            &[
                "file://",
                "http://192.168.1.9/path",
                "192.168.1.9:8080",
                "",
                "app://.",
                "moz-extension://7e5c5a0e-0d3e-4b1a-9a53-1d9f4f0f4a11",
                "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
                "VSCODE-WEBVIEW://1jnk0v",
                "https://a.b/",
            ],
            &[
                "https://a.b",
                "file:///",
                "file://host",
                "FILE://",
                "http://192.168.1.9",
                "http://192.168.1.9/path/",
                "https://192.168.1.9:8080",
                "app://..",
                "https://moz-extension",
                "https://moz-extension://a",
                "moz-extension",
                "null",
            ],
        )
        .await;
    assert_eq!(proxy.status("chat.example", "X: y").await, 403, "no Origin is not an empty one");
    let warning = |record: &Record| {
        record["message"] == "configuration warning"
            && record["warning"].as_str().unwrap().contains("write \"https://a.b\"")
    };
    proxy.process.record("a warning about the path", warning).await;
}

// Requirements: UH40.
#[tokio::test]
async fn record_names_the_entry_that_admits_the_origin() {
    let proxy = OriginProxy::allowing("[\"same-origin\"]").await;
    let long = format!("https://{}.example", "a".repeat(300));
    let same = "; same-origin is http://chat.example";
    let entry = |entries: &str| {
        format!("origin not allowed by this route; to allow it, add {entries}{same}")
    };
    let unnamed = format!("origin not allowed by this route; add it to route.origins{same}");
    for (n, (origin, detail)) in [
        ("https://evil.example", entry("\"https://evil.example\"")),
        ("", entry("\"\"")),
        ("file://", entry("\"file://\"")),
        ("app://x", entry("\"app://x\" or \"app://*\"")),
        ("a \"b\" \\", entry("\"a \\\"b\\\" \\\\\"")),
        // A credential is not repeated, and not every text can be an entry.
        ("https://user:secret@a.example", unnamed.clone()),
        ("https://a.example/?token=secret", unnamed.clone()),
        (&long, unnamed.clone()),
        ("https://*", unnamed.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(proxy.status("chat.example", &format!("Origin: {origin}")).await, 403);
        let record = proxy.process.nth_end_record(n + 1).await;
        assert_eq!(record["detail"], detail, "{origin}");
        assert!(!record.to_string().contains("secret"), "{record}");
        assert!(record["origin"].as_str().is_some_and(|shown| shown.len() < 300), "{record}");
    }
    assert_eq!(proxy.status("chat.example", "X: y").await, 403);
    let record = proxy.process.nth_end_record(10).await;
    let missing = "no Origin header, which clients other than browsers omit; to allow them, add \
                   \"missing\" to route.origins";
    assert_eq!(record["detail"], missing);
    assert!(record["origin"].is_null(), "{record}");
}

#[tokio::test]
async fn rejected_origin_gets_no_cors_or_upgrade_headers() {
    let proxy = OriginProxy::allowing("[\"same-origin\"]").await;
    let sent = with_lines("Origin: https://evil.example");
    let response = proxy.client.request(sent.as_bytes()).await;
    assert_eq!((response.status, response.header("connection")), (403, Some("close")));
    for name in ["access-control-allow-origin", "sec-websocket-accept", "upgrade", "retry-after"] {
        assert_eq!(response.header(name), None, "{name}");
    }
}

/// The application handles CORS itself.
#[tokio::test]
async fn origin_of_plain_requests_is_not_checked() {
    let proxy = OriginProxy::allowing("[\"same-origin\"]").await;
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\n\r\n";
    let status = proxy.client.request(plain.as_bytes()).await.status;
    assert_ne!(status, 403);
}
