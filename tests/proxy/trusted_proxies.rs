//! What else a trusted proxy may say: the request id, and a client named after a PROXY header.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, BufReader};

use crate::forwarded_headers::{ForwardedSetup, PROXY, UNTRUSTED};
use crate::support::head::get;
use crate::support::{HANDSHAKE, connect, exchange, read_response};

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
