//! TLS to backends that run OpenSSL.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::check_command::{check_errors, config, config_folder, run};
use crate::support::control::CONTROL;
use crate::support::tls_backend::{TestIssuer, TlsBackend, VALID};
use crate::support::{Client, Proxy, read_body, read_response, upgrade, wire, within_timeout};

/// A route to a pool with these backends and these keys of `[pool.tls]`.
pub fn tls_pool(backends: &str, keys: &str) -> String {
    format!(
        "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\npool = \"app\"\n\
         [[pool]]\nname = \"app\"\nbackends = [\"{backends}\"]\n[pool.tls]\n{keys}\n"
    )
}

/// What the backend reports of the connection of one request.
pub async fn report(client: &Client) -> Value {
    let mut stream = tokio::io::BufReader::new(client.connect_plain().await);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_slice(&read_body(&mut stream, &response).await).unwrap()
}

async fn assert_echoes(client: &Client) {
    let mut tunnel = upgrade(client.connect_tls().await).await;
    for message in [&b"one"[..], b"two"] {
        tunnel.write_all(&wire::masked(0x80 | wire::BINARY, message)).await.unwrap();
        tunnel.flush().await.unwrap();
        assert_eq!(wire::read(&mut tunnel).await.unwrap().payload, message);
    }
}

#[tokio::test]
async fn requests_and_tunnels_are_encrypted() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["localhost"], VALID);
    for (more, version) in [(json!({}), "TLSv1.3"), (json!({"tls12": true}), "TLSv1.2")] {
        let mut more = more;
        more["alpn"] = json!(["h2", "http/1.1"]);
        let Some(backend) = TlsBackend::start(&issuer, "app", more) else { return };
        let ca = format!("ca = \"{}\"", issuer.path("ca.pem"));
        let proxy = Proxy::start(&tls_pool(&format!("localhost:{}", backend.port), &ca)).await;
        let client = Client::new(&proxy).await;
        let first = report(&client).await;
        assert_eq!((&first["sni"], &first["alpn"]), (&json!("localhost"), &json!("http/1.1")));
        assert_eq!((&first["version"], &first["resumed"]), (&json!(version), &json!(false)));
        assert_eq!(first["host"], "app.example");
        // The connection is used again.
        let second = report(&client).await;
        assert_eq!((&second["request"], &second["resumed"]), (&json!(2), &json!(false)));
        assert_echoes(&client).await;
        assert_eq!(proxy.tunnel_end(1).await["backend"], format!("localhost:{}", backend.port));
    }
}

#[tokio::test]
async fn new_connections_resume_the_session() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["localhost"], VALID);
    let Some(backend) = TlsBackend::start(&issuer, "app", json!({})) else { return };
    let keys = format!("ca = \"{}\"", issuer.path("ca.pem"));
    let pool = tls_pool(&format!("localhost:{}", backend.port), &keys);
    let proxy = Proxy::start(&format!("{pool}[timeouts]\nbackend_keep_alive = \"off\"\n")).await;
    let client = Client::new(&proxy).await;
    let reports = [report(&client).await, report(&client).await];
    assert_eq!([&reports[0]["resumed"], &reports[1]["resumed"]], [&json!(false), &json!(true)]);
}

#[tokio::test]
async fn self_signed_certificate_is_its_own_issuer() {
    let issuer = TestIssuer::new();
    issuer.self_sign("app", &["localhost"], VALID);
    let Some(backend) = TlsBackend::start(&issuer, "app", json!({})) else { return };
    let ca = format!("ca = \"{}\"", issuer.path("app.pem"));
    let proxy = Proxy::start(&tls_pool(&format!("localhost:{}", backend.port), &ca)).await;
    assert_eq!(report(&Client::new(&proxy).await).await["sni"], "localhost");
}

#[tokio::test]
async fn names_can_be_set_separately() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["app.internal", "127.0.0.1"], VALID);
    let Some(backend) = TlsBackend::start(&issuer, "app", json!({})) else { return };
    let address = format!("127.0.0.1:{}", backend.port);
    let ca = format!("ca = \"{}\"\n", issuer.path("ca.pem"));
    for (keys, sni) in [
        // The certificate has the address.
        ("", json!(null)),
        ("verify_name = \"app.internal\"", json!(null)),
        ("server_name = \"app.internal\"", json!("app.internal")),
        ("server_name = \"front.example\"\nverify_name = \"127.0.0.1\"", json!("front.example")),
    ] {
        let proxy = Proxy::start(&tls_pool(&address, &format!("{ca}{keys}"))).await;
        assert_eq!(report(&Client::new(&proxy).await).await["sni"], sni, "{keys}");
    }
}

#[tokio::test]
async fn client_certificate_is_shown_and_reloaded() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["127.0.0.1"], VALID);
    issuer.issue("first", &["first"], VALID);
    issuer.issue("second", &["second"], VALID);
    let more = json!({"client_ca": issuer.path("ca.pem")});
    let Some(backend) = TlsBackend::start(&issuer, "app", more) else { return };
    let keys = format!(
        "ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        issuer.path("ca.pem"),
        issuer.path("first.pem"),
        issuer.path("first.key")
    );
    let proxy = Proxy::start(&tls_pool(&format!("127.0.0.1:{}", backend.port), &keys)).await;
    let client = Client::new(&proxy).await;
    assert_eq!(report(&client).await["client"], json!(["first"]));
    let (from, to) = (issuer.path("first"), issuer.path("second"));
    proxy.reload_with(&from, &to).await;
    assert_eq!(report(&client).await["client"], json!(["second"]));
}

#[tokio::test]
async fn unverified_backends_are_shown() {
    let issuer = TestIssuer::new();
    issuer.self_sign("app", &["other.example"], VALID);
    let Some(backend) = TlsBackend::start(&issuer, "app", json!({})) else { return };
    let pool = tls_pool(&format!("127.0.0.1:{}", backend.port), "insecure_skip_verify = true");
    let proxy = Proxy::start(&format!("{CONTROL}{pool}")).await;
    report(&Client::new(&proxy).await).await;
    let status = proxy.status("the pool", |status| status["pools"][0]["tls"].is_object()).await;
    assert_eq!(status["pools"][0]["tls"], json!({"verified": false}));
    let folder =
        config_folder(config(&pool.replace("host = \"*\"", "host = \"localhost\"\npath = \"/x\"")));
    let checked = run(&folder, &["check", "--config", "proxy.toml"]);
    let text = String::from_utf8(checked.stderr).unwrap();
    assert!(text.contains("pool[0].tls.insecure_skip_verify: the certificates"), "{text}");
}

#[test]
fn check_reports_unusable_files() {
    let issuer = TestIssuer::new();
    issuer.issue("one", &["one"], VALID);
    issuer.issue("two", &["two"], VALID);
    let keys = format!(
        "ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        issuer.path("one.key"),
        issuer.path("one.pem"),
        issuer.path("two.key")
    );
    let pool = tls_pool("127.0.0.1:9", &keys);
    let pool = pool.replace("host = \"*\"", "host = \"localhost\"\npath = \"/x\"");
    let reported = check_errors(&config_folder(config(&pool)));
    for words in [
        "pool[0].tls.ca: ",
        "the file holds no certificate",
        "pool[0].tls.key: ",
        "this is not the key of the first certificate",
    ] {
        assert!(reported.contains(words), "{words} is not in {reported}");
    }
}

#[tokio::test]
async fn unix_sockets_are_encrypted_too() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["app.internal"], VALID);
    let socket = issuer.path("app.sock");
    let Some(_backend) = TlsBackend::start(&issuer, "app", json!({"unix": &socket})) else {
        return;
    };
    let keys = format!("ca = \"{}\"\nserver_name = \"app.internal\"", issuer.path("ca.pem"));
    let proxy = Proxy::start(&tls_pool(&format!("unix:{socket}"), &keys)).await;
    let client = Client::new(&proxy).await;
    assert_eq!(report(&client).await["sni"], "app.internal");
    assert_echoes(&client).await;
}

#[tokio::test]
async fn probes_are_encrypted_too() {
    let issuer = TestIssuer::new();
    issuer.issue("app", &["app.internal"], VALID);
    let socket = issuer.path("app.sock");
    let Some(_backend) = TlsBackend::start(&issuer, "app", json!({"unix": &socket})) else {
        return;
    };
    let ca = format!("ca = \"{}\"", issuer.path("ca.pem"));
    let probe = "[pool.probe]\nkind = \"http\"\ninterval = \"1s\"\nfall = 1";
    for (name, state) in [("app.internal", "up"), ("other.internal", "down")] {
        let keys = format!("{ca}\nserver_name = \"{name}\"\n{probe}");
        let proxy = Proxy::start(&tls_pool(&format!("unix:{socket}"), &keys)).await;
        let row = |status: &Value| status["pools"][0]["backends"][0].clone();
        let row = row(&proxy.status(state, |status| row(status)["state"] == state).await);
        let problem = row["problem"].as_str().unwrap_or_default();
        assert_eq!(problem.contains("app.internal"), state == "down", "{row}");
        let end = if state == "up" { "succeeded" } else { "failed" };
        let ended =
            async || proxy.scrape().await.sum("tidegate_backend_probes_total", &[("outcome", end)]);
        within_timeout("a probe", async { while ended().await == 0.0 {} }).await;
    }
}
