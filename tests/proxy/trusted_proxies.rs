//! What else a trusted proxy may say: the scheme, host and port of the page, the request id, and a
//! client named after a PROXY header.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};

use crate::forwarded_headers::{ForwardedSetup, PROXY, UNTRUSTED};
use crate::support::head::get;
use crate::support::{
    HANDSHAKE, Record, TIDEGATE, TempDir, connect, exchange, read_response, route,
};

#[tokio::test]
async fn request_id_of_a_trusted_proxy_is_kept() {
    let setup = ForwardedSetup::new("", "").await;
    let id = async |host, lines: &str| setup.forwarded(host, lines).await.all("x-request-id");
    let fresh = [id(UNTRUSTED, "").await, id(UNTRUSTED, "X-Request-Id: mine").await];
    assert!(fresh[0] != fresh[1]);
    for id in &fresh {
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
    assert_eq!(id(PROXY, "X-Request-Id: edge-1/2").await, "edge-1/2");
    assert_eq!(id(PROXY, &format!("X-Request-Id: {}", "a".repeat(128))).await.len(), 128);
    for odd in [&"a".repeat(129), "a b", "", "\u{e9}"] {
        assert_eq!(id(PROXY, &format!("X-Request-Id: {odd}")).await.len(), 32, "{odd}");
    }
}

/// A load balancer in front of a proxy: its PROXY header names the proxy, and the proxy's header
/// names the client.
#[tokio::test]
async fn proxy_protocol_source_can_be_trusted() {
    let listener = "[[listener]]\nname = \"pp\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                    proxy_protocol = true\n";
    let setup = ForwardedSetup::new("", listener).await;
    let to: SocketAddr = setup.proxy.address("pp").await;
    for (named, chain) in [
        ("10.0.0.5", "203.0.113.7, 10.0.0.5"),
        // The PROXY header names an untrusted peer; its headers are ignored.
        ("198.51.100.9", "198.51.100.9"),
    ] {
        let mut stream = BufReader::new(connect(PROXY, to).await);
        let line = "\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
        let header = format!("PROXY TCP4 {named} 192.0.2.1 4711 443\r\n");
        exchange(&mut stream, &(header + &get("/").replace("\r\n\r\n", line))).await;
        assert_eq!(setup.last_request().all("x-forwarded-for"), chain);
    }
    let mut stream = BufReader::new(connect(PROXY, to).await);
    let line = "X-Forwarded-For: 203.0.113.7";
    stream.write_all(b"PROXY TCP4 10.0.0.5 192.0.2.1 4711 443\r\n").await.unwrap();
    stream
        .write_all(HANDSHAKE.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n")).as_bytes())
        .await
        .unwrap();
    assert_eq!(read_response(&mut stream).await.status, 101);
    drop(stream);
    let record = setup.proxy.tunnel_end(1).await;
    assert_eq!(
        (&record["client"], &record["client_source"]),
        (&"203.0.113.7".into(), &"forwarded".into())
    );
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
}

// Requirements: XF11.
#[tokio::test]
async fn leftmost_scheme_decides_same_origin() {
    let setup = ForwardedSetup::same_origin().await;
    let page = "Origin: https://localhost\r\n";
    for lines in [
        "X-Forwarded-Proto: https, http",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http",
        "X-Forwarded-Proto: ,wss, ws",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 80",
    ] {
        let (response, _) = setup.handshake(PROXY, &format!("{page}{lines}")).await;
        assert_eq!(response.status, 101, "{lines}: {:#?}", setup.proxy.outcomes());
        assert_eq!(setup.last_request().all("x-forwarded-proto"), "https");
        assert_eq!(setup.last_request().all("x-forwarded-port"), "443");
    }
    for (n, from, lines) in [
        (1, PROXY, "X-Forwarded-Proto: http, https"),
        (2, PROXY, "X-Forwarded-Proto: on, https"),
        (3, UNTRUSTED, "X-Forwarded-Proto: https"),
    ] {
        let (response, _) = setup.handshake(from, &format!("{page}{lines}")).await;
        assert_eq!(response.status, 403, "{lines}");
        let is_rejected = |record: &Record| record["event"] == "rejected";
        let record = setup.proxy.nth_record("a rejection", n, is_rejected).await;
        assert_eq!(record["key"], "trusted_proxies.addresses", "{record}");
        let detail = record["detail"].as_str().unwrap();
        assert!(detail.contains("counts as http: list the proxy"), "{detail}");
        assert!(detail.ends_with("same-origin is http://localhost"), "{detail}");
        assert!(!detail.contains("route.origins"), "{detail}");
        let invalid =
            lines.contains("on,").then_some("x-forwarded-proto: neither http nor https: on");
        assert_eq!(record["forwarded_invalid"].as_str(), invalid);
    }
}

// Requirements: XF12.
#[tokio::test]
async fn reported_host_and_port_decide_same_origin() {
    let setup = ForwardedSetup::same_origin().await;
    let https = "X-Forwarded-Proto: https\r\n";
    for (origin, lines, status) in [
        ("https://a.example", format!("{https}X-Forwarded-Host: A.example"), 101),
        ("https://a.example", format!("{https}X-Forwarded-Host: a.example, b"), 101),
        ("https://a.example:8443", format!("{https}X-Forwarded-Host: a.example:8443"), 101),
        ("https://localhost:8443", format!("{https}X-Forwarded-Port: 8443"), 101),
        (
            "https://a.example:8443",
            format!("{https}X-Forwarded-Host: a.example\r\nX-Forwarded-Port: 8443, 80"),
            101,
        ),
        ("http://a.example:81", "X-Forwarded-Host: a.example:81".to_owned(), 101),
        ("https://localhost", format!("{https}X-Forwarded-Host: a.example"), 403),
        ("https://localhost", format!("{https}X-Forwarded-Port: 8443"), 403),
        ("https://a.example.b", format!("{https}X-Forwarded-Host: a.example"), 403),
    ] {
        let (response, _) = setup.handshake(PROXY, &format!("Origin: {origin}\r\n{lines}")).await;
        assert_eq!(response.status, status, "{origin} {lines}: {:#?}", setup.proxy.outcomes());
    }
    let forged = "Origin: http://a.example\r\nX-Forwarded-Host: a.example";
    assert_eq!(setup.handshake(UNTRUSTED, forged).await.0.status, 403);
    // Routes are chosen by the host that the request names.
    let (response, _) = setup.handshake(PROXY, "X-Forwarded-Host: unknown.example").await;
    assert_eq!(response.status, 403);
}

// Requirements: XF13.
#[tokio::test]
async fn values_that_are_not_understood_are_recorded() {
    let setup = ForwardedSetup::new("", "").await;
    let record = setup
        .record(
            "X-Forwarded-For: unknown\r\nX-Forwarded-Proto: \u{e9}\r\nX-Forwarded-Host: a b\r\n\
             X-Forwarded-Port: 99999, 1\r\nX-Request-Id: a\r\nX-Request-Id: b",
        )
        .await;
    let expected = "x-forwarded-for: an entry is not an IP address; \
                    x-forwarded-proto: neither http nor https: \\u{e9}; \
                    x-forwarded-host: not a host name or address: a b; \
                    x-forwarded-port: not a port from 1 to 65535: 99999; \
                    x-request-id: more than one, with different values";
    assert_eq!(record["forwarded_invalid"], expected);
    let record = setup
        .record("X-Forwarded-Proto: token=hunter2\r\nX-Forwarded-Host: https://u:hunter2@b/x?key=hunter2")
        .await;
    let named = record["forwarded_invalid"].as_str().unwrap();
    assert!(!named.contains("hunter2") && named.matches("[redacted]").count() >= 2, "{named}");
    let long = format!("X-Forwarded-Proto: {}", "x".repeat(4000));
    let record = setup.record(&long).await;
    assert!(record["forwarded_invalid"].as_str().unwrap().len() < 128, "{record}");
    let record = setup.record("X-Forwarded-Proto: https\r\nX-Forwarded-Port: 80").await;
    assert_eq!(record["forwarded_invalid"], "x-forwarded-port: contradicts x-forwarded-proto: 80");
    let record = setup.record("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto:").await;
    assert!(record["forwarded_invalid"].is_null(), "{record}");
    // What other peers send about the client does not count, and is not recorded.
    let before = setup.proxy.outcomes().len();
    drop(setup.handshake(UNTRUSTED, "X-Forwarded-Proto: on").await);
    let record = setup.proxy.nth_end_record(before + 1).await;
    assert!(record["forwarded_invalid"].is_null(), "{record}");
}

// Requirements: XF13.
#[tokio::test]
async fn parameters_that_are_not_understood_are_recorded() {
    let setup = ForwardedSetup::new("header = \"forwarded\"", "").await;
    let record = setup.record("Forwarded: for=203.0.113.7;proto=on").await;
    assert_eq!(record["client"], "203.0.113.7");
    assert_eq!(record["forwarded_invalid"], "forwarded: proto is neither http nor https");
}

#[tokio::test]
async fn header_of_a_provider_names_the_client() {
    let setup = ForwardedSetup::new("header = \"CF-Connecting-IP\"", "").await;
    let lines =
        "CF-Connecting-IP: 203.0.113.7\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https";
    let request = setup.forwarded(PROXY, lines).await;
    assert_eq!(request.all("x-real-ip"), "203.0.113.7");
    assert_eq!(request.all("x-forwarded-for"), "203.0.113.7, 127.0.0.2");
    assert_eq!(request.all("x-forwarded-proto"), "https");
    let request = setup.forwarded(UNTRUSTED, lines).await;
    assert_eq!(request.all("x-forwarded-for"), "127.0.0.3");
    assert_eq!(request.all("cf-connecting-ip"), "");
    let record = setup.record("CF-Connecting-IP: unknown").await;
    assert_eq!(record["client_source"], "invalid", "{record}");
    assert_eq!(record["forwarded_invalid"], "cf-connecting-ip: not an IP address");
}

#[tokio::test]
async fn changed_address_file_needs_no_reload() {
    let folder = TempDir::new();
    let list = folder.path().join("proxies.txt");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    let files = format!("address_files = [\"{}\"]", list.display());
    let setup = ForwardedSetup::new(&files, "").await;
    let client = async || {
        let request = setup.forwarded(UNTRUSTED, "X-Forwarded-For: 203.0.113.7").await;
        request.all("x-real-ip")
    };
    assert_eq!(client().await, "127.0.0.3");
    fs::write(&list, "# the address is trusted from now on\n127.0.0.3\n").unwrap();
    let replaced = |record: &Record| record["message"] == "addresses of trusted proxies replaced";
    let record = setup.proxy.late_record(RELOAD_TIMEOUT, replaced).await;
    assert_eq!((&record["generation"], &record["networks"]), (&2.into(), &2.into()));
    assert_eq!(client().await, "203.0.113.7");
    let applied = [("outcome", "applied")];
    let scrape = setup.proxy.scrape().await;
    assert_eq!(scrape.value("tidegate_trusted_proxy_updates_total", &applied), 1.0);
    // A reload reads the file as well, and rejects what the watcher would ignore.
    fs::write(&list, "127.0.0.300\n").unwrap();
    let record = setup.proxy.reload().await;
    assert!(record["message"].as_str().unwrap().starts_with("reload rejected;"), "{record}");
    assert_eq!(client().await, "203.0.113.7");
}

#[test]
fn check_counts_addresses_of_files() {
    let folder = TempDir::new();
    let route = route(&["127.0.0.1:9".parse().unwrap()], "");
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n";
    let trusted = "[trusted_proxies]\naddress_files = [\"v4.txt\", \"v6.txt\"]\n";
    folder.write("proxy.toml", format!("{listener}{trusted}{route}"));
    folder.write("v4.txt", "# edge\n10.0.0.0/8\n192.0.2.7\n");
    let check = || {
        let mut check = Command::new(TIDEGATE);
        check.args(["check", "--config", "proxy.toml"]).current_dir(folder.path());
        let output = check.output().unwrap();
        let shown = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), shown.concat())
    };
    let (code, shown) = check();
    let missing = "trusted_proxies.address_files[1]: v6.txt: there is no such file";
    assert!(code == Some(78) && shown.contains(missing), "{shown}");
    folder.write("v6.txt", "2001:db8::/32\n");
    let (code, shown) = check();
    let counts =
        "\nv4.txt: 2 address(es) of trusted proxies\nv6.txt: 1 address(es) of trusted proxies\n";
    assert!(code == Some(0) && shown.contains(counts), "{shown}");
}

/// Longer than three examinations of the file on a busy machine.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);
