//! `allow` and `deny` of listeners and routes.

use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::control::CONTROL;
use crate::support::head::get;
use crate::support::{
    BASE, Backend, Client, HANDSHAKE, Proxy, TestBed, assert_relays, connect, read_response,
    read_to_end, route,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy whose TLS listener has these keys.
async fn proxy_with(keys: &str, more: &str, backend: &Backend) -> Proxy {
    let base = BASE.replace("name = \"tls\"\n", &format!("name = \"tls\"\n{keys}\n"));
    Proxy::start_bare(&format!("{base}{more}\n{}", route(&[backend.address], ""))).await
}

#[tokio::test]
async fn denied_connections_are_closed_before_tls() {
    let backend = Backend::app(OK).await;
    for (keys, key, value) in [
        ("deny = [\"127.0.0.8/29\"]", "listener.deny", "127.0.0.8/29"),
        ("allow = [\"127.0.0.1\", \"10.0.0.0/8\"]", "listener.allow", "127.0.0.1, 10.0.0.0/8"),
    ] {
        let proxy = proxy_with(keys, "", &backend).await;
        let client = Client::new(&proxy).await;
        let mut denied = connect([127, 0, 0, 9], client.tls).await;
        assert_eq!(read_to_end(&mut denied).await, b"");
        let record = proxy.end_record("address_denied").await;
        assert_eq!(
            (&record["event"], &record["stage"], &record["key"], &record["value"]),
            (&json!("dropped"), &json!("accept"), &json!(key), &json!(value))
        );
        let counted = proxy.scrape().await.value(
            "tidegate_connections_dropped_total",
            &[("reason", "address_denied"), ("stage", "accept")],
        );
        assert_eq!(counted, 1.0);
        // Other addresses and other listeners are not affected.
        let mut secure = BufReader::new(client.connect_tls().await);
        secure.write_all(get("/").as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut secure).await.status, 200);
        let mut plain = BufReader::new(connect([127, 0, 0, 9], client.plain).await);
        plain.write_all(get("/").as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut plain).await.status, 200);
    }
}

#[tokio::test]
async fn listener_checks_the_client_of_a_proxy_header() {
    let backend = Backend::app(OK).await;
    let more = "[[listener]]\nname = \"pp\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                proxy_protocol = true\nallow = [\"203.0.113.0/24\"]\n\
                [trusted_proxies]\naddresses = [\"127.0.0.1\"]";
    let proxy = proxy_with("", more, &backend).await;
    let to = proxy.address("pp").await;
    for (header, expected) in [
        ("PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", 200),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n", 0),
        // The balancer's own check.
        ("PROXY UNKNOWN\r\n", 200),
    ] {
        let mut stream = BufReader::new(connect([127, 0, 0, 1], to).await);
        stream.write_all(format!("{header}{}", get("/")).as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, expected, "{header}");
    }
    let record = proxy.end_record("address_denied").await;
    assert_eq!(
        (&record["client"], &record["key"]),
        (&json!("198.51.100.7:4711"), &json!("listener.allow"))
    );
}

#[tokio::test]
async fn route_checks_the_client_behind_trusted_proxies() {
    let backend = Backend::app(OK).await;
    let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.2\"]\n";
    let internal = route(
        &[backend.address],
        "path = \"/internal\"\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.7\"]\n",
    );
    let internal = internal.replace("\"all\"", "\"internal\"");
    let proxy =
        Proxy::start(&format!("{trusted}{internal}{}", route(&[backend.address], ""))).await;
    let to = proxy.address("plain").await;
    let status = async |from: [u8; 4], request: &str, client: &str| {
        let mut stream = BufReader::new(connect(from, to).await);
        let line = format!("\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.replace("\r\n\r\n", &line).as_bytes()).await.unwrap();
        read_response(&mut stream).await.status
    };
    let (front, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let handshake = HANDSHAKE.replace("/ws", "/internal/ws");
    for request in [get("/internal/x"), handshake] {
        let served = if request.contains("Upgrade") { 101 } else { 200 };
        assert_eq!(status(front, &request, "10.0.0.8").await, served);
        assert_eq!(status(front, &request, "10.0.0.7").await, 403);
        assert_eq!(status(front, &request, "11.0.0.1").await, 403);
        // A client that is no trusted proxy cannot claim an address.
        assert_eq!(status(other, &request, "10.0.0.8").await, 403);
    }
    assert_eq!(status(other, &get("/"), "10.0.0.8").await, 200);
    assert_eq!(backend.heads().len(), 3);
    for (n, client, key, value) in
        [(1, "10.0.0.7", "route.deny", "10.0.0.7"), (2, "11.0.0.1", "route.allow", "10.0.0.0/8")]
    {
        let is_rejected = |record: &crate::support::Record| record["end"] == "address_denied";
        let record = proxy.nth_record("a rejection", n, is_rejected).await;
        assert_eq!(
            (&record["status"], &record["client"], &record["route"]),
            (&json!(403), &json!(client), &json!("internal"))
        );
        assert_eq!((&record["key"], &record["value"]), (&json!(key), &json!(value)));
    }
}

#[tokio::test]
async fn open_tunnels_survive_a_new_rule() {
    let bed = TestBed::with("#rules\n").await;
    let (mut client, mut backend) = bed.open().await;
    bed.proxy.reload_with("#rules\n", "deny = [\"127.0.0.0/8\"]\n").await;
    assert_eq!(bed.client.request(HANDSHAKE.as_bytes()).await.status, 403);
    assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn explain_names_the_deciding_list() {
    let backend = Backend::app(OK).await;
    let routes = route(&[backend.address], "allow = [\"10.0.0.0/8\"]\n");
    let proxy = Proxy::start(&format!("{CONTROL}{routes}")).await;
    let explain = async |address: &str| {
        let url = "ws://localhost/ws";
        let command = json!({"command": "explain", "url": url, "origin": null, "address": address});
        proxy.command(command).await
    };
    assert_eq!(explain("10.0.0.1").await["admitted"], true);
    let denied = explain("192.0.2.1").await;
    let last = denied["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&denied["status"], &denied["reason"], &last["check"], &last["key"]),
        (&json!(403), &json!("address_denied"), &json!("address"), &json!("route.allow"))
    );
}
