//! The spelling of field names. They are case-insensitive (RFC 9110 5.1), but devices and servers exist that
//! compare them exactly.

use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::head::with_lines;
use crate::support::{
    Backend, Client, Proxy, read_response, read_to_end, route, switching_protocols,
};

/// The names of the lines of a head, in order.
fn names(head: &str) -> Vec<&str> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn names_of_a_handshake_keep_their_spelling() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let answer = "HTTP/1.1 101 Odd\r\nSeT-CookiE: a=1\r\nset-cookie: b=2\r\n";
        let response =
            switching_protocols(&head).replacen("HTTP/1.1 101 Switching Protocols\r\n", answer, 1);
        stream.write_all(response.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let sent = with_lines("x-LOWER: 1\r\nX-lower: 2\r\nCOOKIE: c");
    let response = Client::new(&proxy).await.request(sent.as_bytes()).await;
    let got = names(&response.head);
    for name in
        ["SeT-CookiE", "set-cookie", "Sec-WebSocket-Accept", "Connection", "Upgrade", "Date"]
    {
        assert!(got.contains(&name), "{name}: {got:?}");
    }
    let [head] = backend.heads().try_into().unwrap();
    let got = names(&head);
    for name in [
        "Host",
        "x-LOWER",
        "X-lower",
        "COOKIE",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Connection",
        "Upgrade",
        "X-Forwarded-For",
        "Cdn-Loop",
    ] {
        assert!(got.contains(&name), "{name}: {got:?}");
    }
}

#[tokio::test]
async fn names_of_plain_messages_keep_their_spelling() {
    let answer = "HTTP/1.1 200 OK\r\nETag: x\r\nX-ID: 1\r\nx-id: 2\r\nCONTENT-LENGTH: 2\r\n\r\nok";
    let backend = Backend::app(answer).await;
    let proxy = Proxy::start(&route(&[backend.address], "")).await;
    let mut stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
    let sent = "POST / HTTP/1.1\r\nhost: a\r\nSOAPAction: x\r\nContent-MD5: y\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(sent.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(names(&response.head), ["ETag", "X-ID", "x-id", "CONTENT-LENGTH", "Date"]);
    let [head] = backend.heads().try_into().unwrap();
    let got = names(&head);
    for name in
        ["host", "SOAPAction", "Content-MD5", "Content-Length", "X-Forwarded-For", "Cdn-Loop"]
    {
        assert!(got.contains(&name), "{name}: {got:?}");
    }
}
