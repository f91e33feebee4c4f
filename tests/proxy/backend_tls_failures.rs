//! TLS to backends that fails: each cause has its name in records and metrics.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::backend_tls::{report, tls_pool};
use crate::support::tls_backend::{TestIssuer, TlsBackend, VALID};
use crate::support::{Client, HANDSHAKE, Proxy, Record, read_response};

/// The record of a handshake that fails because of TLS to a backend on this port.
async fn failed(port: u16, keys: &str) -> Record {
    let pool = tls_pool(&format!("127.0.0.1:{port}"), keys);
    let proxy = Proxy::start(&format!("{pool}[timeouts]\nconnect = \"400ms\"\n")).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 502);
    let record = proxy.nth_end_record(1).await;
    let reason = record["end"].as_str().unwrap();
    let labels = [("stage", "backend"), ("reason", reason)];
    assert_eq!(proxy.scrape().await.sum("tidegate_requests_rejected_total", &labels), 1.0);
    record
}

// Requirements: BM20.
#[tokio::test]
async fn certificates_that_do_not_fit_are_named() {
    let (issuer, other) = (TestIssuer::new(), TestIssuer::new());
    let address = ["127.0.0.1"];
    issuer.issue("expired", &address, [2020, 2021]);
    issuer.issue("future", &address, [2080, 2090]);
    issuer.issue("misnamed", &["app.example"], VALID);
    issuer.issue("misaddressed", &["192.0.2.1"], VALID);
    issuer.issue("unknown", &address, VALID);
    issuer.self_sign("self-signed", &address, VALID);
    issuer.self_sign("own-name", &["app.example"], VALID);
    issuer.self_sign("own-expired", &address, [2020, 2021]);
    let [own_name, own_expired] =
        ["own-name.pem", "own-expired.pem"].map(|file| format!("ca = \"{}\"\n", issuer.path(file)));
    let ca = format!("ca = \"{}\"\n", issuer.path("ca.pem"));
    let unknown = format!("ca = \"{}\"\n", other.path("ca.pem"));
    for (certificate, keys, reason, key, words) in [
        ("expired", &ca, "expired", "pool.tls", "has expired"),
        ("future", &ca, "not_yet_valid", "pool.tls", "not valid yet"),
        ("misnamed", &ca, "wrong_name", "pool.tls.verify_name", "app.example"),
        ("misaddressed", &ca, "wrong_name", "pool.tls.verify_name", "192.0.2.1"),
        ("unknown", &unknown, "unknown_issuer", "pool.tls.ca", "no trusted issuer"),
        ("self-signed", &ca, "unknown_issuer", "pool.tls.ca", "no trusted issuer"),
        ("own-name", &own_name, "wrong_name", "pool.tls.verify_name", "app.example"),
        ("own-expired", &own_expired, "expired", "pool.tls", "has expired"),
        // None of the system's issuers has signed it.
        ("unknown", &String::new(), "unknown_issuer", "pool.tls.ca", "no trusted issuer"),
    ] {
        let Some(backend) = TlsBackend::start(&issuer, certificate, json!({})) else { return };
        let record = failed(backend.port, keys).await;
        assert_eq!(record["end"], format!("backend_tls_{reason}"), "{certificate}: {record}");
        assert_eq!(record["key"], key, "{certificate}: {record}");
        assert!(record["detail"].as_str().unwrap().contains(words), "{certificate}: {record}");
    }
}

#[tokio::test]
async fn missing_client_certificate_is_named() {
    let (issuer, other) = (TestIssuer::new(), TestIssuer::new());
    issuer.issue("app", &["127.0.0.1"], VALID);
    other.issue("client", &["client"], VALID);
    let ca = format!("ca = \"{}\"\n", issuer.path("ca.pem"));
    let wrong = format!(
        "{ca}certificate = \"{}\"\nkey = \"{}\"",
        other.path("client.pem"),
        other.path("client.key")
    );
    for tls12 in [false, true] {
        let more = json!({"client_ca": issuer.path("ca.pem"), "tls12": tls12});
        let Some(backend) = TlsBackend::start(&issuer, "app", more) else { return };
        for (keys, tls12_reason) in [(&ca, "failed"), (&wrong, "client_certificate")] {
            let record = failed(backend.port, keys).await;
            // TLS 1.2 has no alert that says so for a missing certificate.
            let reason = if tls12 { tls12_reason } else { "client_certificate" };
            assert_eq!(record["end"], format!("backend_tls_{reason}"), "{tls12} {keys}: {record}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "bounded by the test's own traffic")]
#[tokio::test]
async fn backend_without_tls_is_named() {
    for (answer, closes, reason) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true, "not_tls"),
        (b"", true, "closed"),
        // Silent: it accepts and sends nothing.
        (b"", false, "timeout"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut hello = [0; 4096];
                    let _ = stream.read(&mut hello).await;
                    let _ = stream.write_all(answer).await;
                    while !closes && stream.read(&mut hello).await.is_ok_and(|len| len > 0) {}
                });
            }
        });
        let record = failed(port, "insecure_skip_verify = true").await;
        assert_eq!(record["end"], format!("backend_tls_{reason}"), "{record}");
        serving.abort();
    }
}

#[tokio::test]
async fn next_backend_serves_if_tls_fails() {
    let issuer = TestIssuer::new();
    issuer.issue("good", &["127.0.0.1"], VALID);
    issuer.issue("bad", &["127.0.0.1"], [2020, 2021]);
    let Some(good) = TlsBackend::start(&issuer, "good", json!({})) else { return };
    let Some(bad) = TlsBackend::start(&issuer, "bad", json!({})) else { return };
    let ca = format!("ca = \"{}\"", issuer.path("ca.pem"));
    let addresses = format!("127.0.0.1:{}\", \"127.0.0.1:{}", bad.port, good.port);
    let proxy = Proxy::start(&tls_pool(&addresses, &ca)).await;
    let client = Client::new(&proxy).await;
    report(&client).await;
    // Probes shake hands as well, so it stays down although it accepts connections.
    let is_down = |status: &serde_json::Value| {
        let backends = status["pools"][0]["backends"].as_array().unwrap();
        let bad =
            backends.iter().find(|row| row["id"] == format!("127.0.0.1:{}", bad.port)).unwrap();
        bad["state"] == "untried" || bad["connect_failures"].as_u64() > Some(0)
    };
    proxy.status("the backends", is_down).await;
}

/// With TLS 1.3 the handshake succeeds, and the certificate is rejected when the request is on its way.
#[tokio::test]
async fn backend_that_rejects_the_certificate_is_ejected() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["127.0.0.1"], VALID);
    let strict = json!({"client_ca": issuer.path("ca.pem")});
    let Some(strict) = TlsBackend::start(&issuer, "app", strict) else { return };
    let Some(open) = TlsBackend::start(&issuer, "app", json!({})) else { return };
    let addresses = format!("127.0.0.1:{}\", \"127.0.0.1:{}", strict.port, open.port);
    let ca = format!("ca = \"{}\"", issuer.path("ca.pem"));
    let proxy = Proxy::start(&tls_pool(&addresses, &ca)).await;
    let client = Client::new(&proxy).await;
    let mut failed = 0;
    for host in 1..=60 {
        let mut stream = BufReader::new(client.connect_plain_from([127, 0, 14, host]).await);
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        failed += usize::from(read_response(&mut stream).await.status == 502);
    }
    assert_eq!(failed, 3, "after three clients it is tried last");
    let is_ejection = |record: &Record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("backend ejected"))
    };
    let ejected = proxy.record("the ejection", is_ejection).await;
    assert_eq!(ejected["backend"], format!("127.0.0.1:{}", strict.port));
    assert!(ejected["error"].as_str().unwrap().contains("client certificate"), "{ejected}");
}
