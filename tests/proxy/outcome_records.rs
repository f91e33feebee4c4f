//! One record for every connection, request or tunnel that was dropped, rejected or ended, safe to
//! print on a terminal.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    Backend, Client, HANDSHAKE, MockBackend, Proxy, Record, TestBed, assert_relays, close_normally,
    read_response, read_to_end, reset, route, upgrade, within_timeout,
};

#[tokio::test]
async fn every_tunnel_and_rejection_has_one_record() {
    let mock = MockBackend::new().await;
    let proxy = Proxy::start(&route(&[mock.address()], "path = \"/ws\"\n")).await;
    let client = Client::new(&proxy).await;
    close_normally(client.raw_tunnel().await, mock.accept().await).await;
    let tunnel = client.raw_tunnel().await;
    let mut backend = mock.accept().await;
    reset(tunnel);
    // The proxy would see both ends at once if the backend left as well.
    read_to_end(&mut backend).await;
    let mut tunnel = client.raw_tunnel().await;
    tunnel.write_all(b"garbage!").await.unwrap();
    drop((tunnel, mock.accept().await));
    let asked = [
        HANDSHAKE.replace("/ws", "/else"),
        HANDSHAKE.replace("13\r\n", "12\r\n"),
        "GET /ws HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "not a request\r\n\r\n".to_owned(),
    ];
    for asked in asked {
        client.request(asked.as_bytes()).await;
    }
    let mut ends = vec!["client_closed", "client_disconnected", "ws_opcode"];
    ends.extend(["no_route", "version", "request_invalid", "head_invalid"]);
    assert_outcomes(&proxy, ends).await;
}

#[tokio::test]
async fn every_connection_without_request_has_one_record() {
    let deadlines = "[timeouts]\ntls = \"300ms\"\nrequest_header = \"4s\"\n";
    let bed =
        TestBed::with(&format!("[concurrency]\nconnections_per_client = 3\n{deadlines}")).await;
    let client = &bed.client;
    let mut secure = TcpStream::connect(client.tls).await.unwrap();
    secure.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    read_to_end(&mut secure).await;
    read_to_end(&mut TcpStream::connect(client.tls).await.unwrap()).await;
    let mut slow = client.connect_plain().await;
    slow.write_all(b"GET /ws HT").await.unwrap();
    read_to_end(&mut slow).await;
    drop((secure, slow));
    bed.proxy.wait_until_idle().await;
    // Three connections stay; the fourth is over the limit.
    let three =
        [client.connect_plain().await, client.connect_plain().await, client.connect_plain().await];
    let full = async { while bed.proxy.health().await["connections"] != 3 {} };
    within_timeout("three connections", full).await;
    read_to_end(&mut client.connect_plain().await).await;
    drop(three);
    let mut ends = vec!["tls_failed", "tls_timeout", "head_timeout"];
    ends.extend([
        "client_limit",
        "client_disconnected",
        "client_disconnected",
        "client_disconnected",
    ]);
    assert_outcomes(&bed.proxy, ends).await;
}

/// Waits until everything has ended; expects exactly these records, in any order.
async fn assert_outcomes(proxy: &Proxy, mut wanted: Vec<&str>) {
    proxy.nth_end_record(wanted.len()).await;
    proxy.wait_until_idle().await;
    // The reload's line follows, so no further record is pending.
    proxy.reload().await;
    let outcomes = proxy.outcomes();
    let mut found: Vec<&str> = outcomes.iter().map(|r| r["end"].as_str().unwrap()).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn record_describes_client_route_traffic_and_duration() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open_secure().await;
    assert_relays(&mut client, &mut backend).await;
    assert_relays(&mut client, &mut backend).await;
    close_normally(client, backend).await;
    let record = bed.tunnel_end(1).await;
    let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("{key}: {record}"));
    assert!(text("client").starts_with("127.0.0.1"), "{record}");
    assert_eq!(text("client_key"), "127.0.0.1");
    assert_eq!((text("listener"), text("route")), ("tls", "all"));
    assert_eq!(text("backend"), bed.backend.address().to_string());
    assert_eq!((text("host"), text("target")), ("localhost", "/ws"));
    assert_eq!((text("protocol"), text("stage")), ("http/1.1", "tunnel"));
    assert_eq!((text("end"), text("by")), ("client_closed", "client"));
    assert_eq!(text("event"), "ended");
    assert_eq!((text("tls_version"), text("sni")), ("1.3", "localhost"));
    assert!(text("tls_cipher").starts_with("TLS_AES_"), "{record}");
    let number = |key: &str| record[key].as_u64().unwrap_or_else(|| panic!("{key}: {record}"));
    assert_eq!((number("session"), number("generation")), (1, 1));
    assert_eq!((number("up_messages"), number("down_messages")), (2, 2));
    assert_eq!((number("up_bytes"), number("down_bytes")), (2 * 8 + 8, 2 * 6 + 4));
    assert_eq!((number("close_client"), number("close_backend")), (1000, 1000));
    assert!(number("age_ms") < 20_000 && number("backend_handshake_ms") < 20_000);
    assert!(record.get("key").is_none() && record.get("value").is_none(), "{record}");
}

#[tokio::test]
async fn record_includes_user_agent_and_traceparent() {
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&route(&[backend.address], "path = \"/ws\"\n")).await;
    let client = Client::new(&proxy).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let said = [
        ("user-agent", "Browser/1.0 (X11)"),
        ("traceparent", trace),
        ("sec-websocket-protocol", "chat, other"),
    ];
    let (mut socket, _) = client.websocket("/ws", &said).await.unwrap();
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    let ended = proxy.tunnel_end(1).await;
    let head = HANDSHAKE.replace("/ws", "/else").replace("Upgrade: w", "{}Upgrade: w");
    let lines = format!("User-Agent: Browser/1.0 (X11)\r\ntraceparent: {trace}\r\n");
    client.request(head.replace("{}", &lines).as_bytes()).await;
    let refused = proxy.end_record("no_route").await;
    for record in [&ended, &refused] {
        assert_eq!(record["user_agent"], "Browser/1.0 (X11)", "{record}");
        assert_eq!(record["traceparent"], trace, "{record}");
    }
    assert_eq!(ended["subprotocol"], "chat");
    assert!(refused.get("subprotocol").is_none(), "{refused}");
    // A malformed or repeated traceparent is omitted.
    for lines in ["traceparent: 00-0-0-00\r\n".to_owned(), lines.repeat(2)] {
        client.request(head.replace("/else", "/nowhere").replace("{}", &lines).as_bytes()).await;
    }
    let nowhere = |record: &Record| record["target"] == "/nowhere";
    proxy.nth_record("the last rejection", 2, nowhere).await;
    for record in proxy.records().iter().filter(|record| nowhere(record)) {
        assert!(record.get("traceparent").is_none(), "{record}");
    }
}

#[tokio::test]
async fn records_are_independent_of_the_log_level() {
    for (level, gone) in [("error", 0), ("debug", 1)] {
        let mock = MockBackend::new().await;
        let config = format!(
            "[log]\nformat = \"json\"\nlevel = \"{level}\"\n[admin]\nenabled = false\n\
             [[listener]]\nname = \"plain\"\naddress = \"127.0.0.23:{}\"\ntls = false\n{}",
            free_port().await,
            route(&[mock.address()], "path = \"/ws\"\n")
        );
        let address = config.split_once("127.0.0.23:").unwrap().1.split('"').next().unwrap();
        let address = ("127.0.0.23", address.parse::<u16>().unwrap());
        let proxy = Proxy::spawn(&config, &[]);
        let connect = async || {
            within_timeout("the listener", async {
                loop {
                    match TcpStream::connect(address).await {
                        Ok(stream) => return stream,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            })
            .await
        };
        drop(connect().await);
        close_normally(upgrade(connect().await).await, mock.accept().await).await;
        assert_eq!(proxy.tunnel_end(1).await["end"], "client_closed");
        let mut stream = BufReader::new(connect().await);
        stream.write_all(b"not a request\r\n\r\n").await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 400);
        proxy.end_record("head_invalid").await;
        let left =
            proxy.outcomes().iter().filter(|record| record["end"] == "client_disconnected").count();
        assert_eq!(left, gone, "at level {level}");
    }
}

/// A port that was free when it was checked.
async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.23:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

// Requirements: UH37.
#[tokio::test]
async fn credentials_are_never_logged() {
    let mock = MockBackend::new().await;
    let proxy = Proxy::start(&route(&[mock.address()], "path = \"/ws\"\n")).await;
    let client = Client::new(&proxy).await;
    let query = "?room=1&token=SECRET1&Access_Token=SECRET2&jwt=SECRET3&%74icket=SECRET4&sid=SECRET5\
                 &key=SECRET6&password=SECRET7";
    let asked = HANDSHAKE.replace("/ws", &format!("/ws{query}"));
    let asked = asked
        .replace("Upgrade: w", "Authorization: Bearer SECRET8\r\nCookie: s=SECRET9\r\nUpgrade: w");
    let mut tunnel = BufReader::new(client.connect_plain().await);
    tunnel.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut tunnel).await.status, 101);
    drop((tunnel, mock.accept().await));
    proxy.tunnel_end(1).await;
    // Rejected requests are redacted too.
    assert_eq!(client.request(asked.replace("/ws", "/no").as_bytes()).await.status, 404);
    let record = proxy.end_record("no_route").await;
    assert!(
        record["target"].as_str().unwrap().starts_with("/no?room=1&token=[redacted]&"),
        "{record}"
    );
    client.request(asked.replace("Host: localhost\r\n", "").as_bytes()).await;
    proxy.end_record("request_invalid").await;
    client.request(asked.replace(" HTTP/1.1", " HTTP/1.1 nonsense").as_bytes()).await;
    proxy.end_record("head_invalid").await;
    let all = proxy.records().iter().map(Record::to_string).collect::<String>();
    assert!(!all.contains("SECRET"), "{all}");
}

#[tokio::test]
async fn control_characters_are_never_logged() {
    for format in ["json", "text"] {
        let mock = MockBackend::new().await;
        let config = format!(
            "[log]\nformat = \"{format}\"\n[admin]\nenabled = false\n\
             [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n{}",
            route(&[mock.address()], "path = \"/ws\"\n")
        );
        let proxy = Proxy::spawn(&config, &[]);
        let listening = |record: &Record| {
            let line = record.to_string();
            line.contains("listening") && line.contains("127.0.0.1:")
        };
        let record = proxy.record("listening", listening).await.to_string();
        let port = record.split_once("127.0.0.1:").unwrap().1;
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        let address = ("127.0.0.1", port.parse::<u16>().unwrap());

        let odd = "\u{9b}31m\u{85}\u{202e}\u{7f}";
        let asked = [
            HANDSHAKE.replace("/ws", &format!("/{odd}?{odd}={odd}")),
            HANDSHAKE.replace("localhost", &format!("{odd}.example")),
            HANDSHAKE.replace("localhost", "a\tb"),
            HANDSHAKE.replace("/ws", "/no").replace("Up", &format!("Origin: https://{odd}\r\nUp")),
            HANDSHAKE.replace("/ws", "/no").replace("Up", "Origin: \u{1b}]0;title\u{7}\r\nUp"),
            HANDSHAKE.replace("/ws", &format!("/no?token={odd}&x=%1b%0a")),
        ];
        for asked in &asked {
            let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
            stream.write_all(asked.as_bytes()).await.unwrap();
            let status = read_response(&mut stream).await.status;
            assert!((400..500).contains(&status), "{status}");
        }
        let about = |record: &Record| {
            let line = record.to_string();
            line.contains("rejected") || line.contains("dropped")
        };
        proxy.nth_record("every refusal", asked.len(), about).await;
        for record in proxy.records() {
            let values: String = match record.as_object() {
                Some(fields) => fields.values().map(plain).collect(),
                None => plain(&record),
            };
            let odd: Vec<char> =
                values.chars().filter(|c| c.is_control() || *c == '\u{202e}').collect();
            assert!(odd.is_empty(), "{odd:?} in {record}");
        }
    }
}

fn plain(value: &Record) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
