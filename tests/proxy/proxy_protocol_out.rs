//! Outgoing PROXY protocol: each backend connection starts with a version 2 header.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::head::get;
use crate::support::{
    Client, HANDSHAKE, Proxy, connect, read_head, route, switching_protocols, within_timeout,
};

const SEND: &str = "proxy_protocol = true\n";

/// Accepts a connection; returns the header's family, its addresses, and the request head.
async fn accept(listener: &TcpListener) -> (u8, Vec<u8>, String, BufReader<TcpStream>) {
    let (stream, _) = within_timeout("a connection", listener.accept()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut fixed = [0; 16];
    within_timeout("a header", stream.read_exact(&mut fixed)).await.unwrap();
    assert_eq!(fixed[..13], *b"\r\n\r\n\0\r\nQUIT\n\x21", "{}", fixed.escape_ascii());
    let mut block = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    within_timeout("addresses", stream.read_exact(&mut block)).await.unwrap();
    let head = read_head(&mut stream).await;
    (fixed[13], block, head, stream)
}

#[tokio::test]
async fn every_backend_connection_starts_with_the_header() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(&route(&[backend.local_addr().unwrap()], SEND)).await;
    let client = Client::new(&proxy).await;
    for request in [get("/"), HANDSHAKE.to_owned()] {
        let mut stream = BufReader::new(connect([127, 0, 0, 9], client.plain).await);
        stream.write_all(request.as_bytes()).await.unwrap();
        let (family, addresses, head, mut served) = accept(&backend).await;
        let (from, to) = (stream.get_ref().local_addr().unwrap().port(), client.plain.port());
        let expected =
            [&[127, 0, 0, 9, 127, 0, 0, 1][..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
        assert_eq!((family, addresses), (0x11, expected));
        assert!(head.starts_with("GET /"), "{head}");
        let response = match head.to_ascii_lowercase().contains("sec-websocket-key") {
            true => switching_protocols(&head),
            false => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        };
        served.write_all(response.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&response[..12]), "{head}");
    }
}

#[tokio::test]
async fn forwarded_client_is_sent_in_one_family() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trusted = "[trusted_proxies]\naddresses = [\"127.0.0.2\"]\n";
    let routes = route(&[backend.local_addr().unwrap()], SEND);
    let proxy = Proxy::start(&format!("{trusted}{routes}")).await;
    let client = Client::new(&proxy).await;
    let mut stream = connect([127, 0, 0, 2], client.plain).await;
    let line = "\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n";
    stream.write_all(get("/").replace("\r\n\r\n", line).as_bytes()).await.unwrap();
    let (family, addresses, ..) = accept(&backend).await;
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let to = client.plain.port().to_be_bytes();
    let expected = [&v6("2001:db8::7")[..], &v6("::ffff:127.0.0.1"), &[0, 0], &to].concat();
    assert_eq!((family, addresses), (0x21, expected));
}

#[tokio::test]
async fn received_destination_is_forwarded() {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let before = "[[listener]]\nname = \"pp\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                  proxy_protocol = true\n[trusted_proxies]\naddresses = [\"127.0.0.2\"]\n";
    let routes = route(&[backend.local_addr().unwrap()], SEND);
    let proxy = Proxy::start(&format!("{before}{routes}")).await;
    let mut stream = connect([127, 0, 0, 2], proxy.address("pp").await).await;
    let header = "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    stream.write_all((header.to_owned() + &get("/")).as_bytes()).await.unwrap();
    let (family, addresses, ..) = accept(&backend).await;
    let expected = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
    assert_eq!((family, &addresses[..]), (0x11, &expected[..]));
}
