//! Session tickets of TLS 1.3, which are sent with the first data.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::net::testing::{Received, close, connected_unbuffered, recv, send};
use crate::net::unbuffered_tls::tests::{Counted, is_idle};

#[tokio::test]
async fn tickets_are_sent_with_the_first_data() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) =
        connected_unbuffered(Counted { pipe: near, reads: 0, writes: 0 }, far).await;
    let before = stream.wire.io.writes;
    assert!(!stream.after_handshake.as_ref().unwrap().unsent_tickets.is_empty());
    assert_eq!(far.get_mut().1.tls13_tickets_received(), 0);
    send(&mut stream, &[b"answer"]).await.unwrap();
    assert_eq!(stream.wire.io.writes - before, 1);
    far.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(far.get_mut().1.tls13_tickets_received(), 2);
    assert!(is_idle(&stream));
}

#[tokio::test]
async fn tickets_precede_the_reply_to_a_key_update() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) = connected_unbuffered(near, far).await;
    far.get_mut().1.refresh_traffic_keys().unwrap();
    far.write_all(b"question").await.unwrap();
    far.flush().await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"question".to_vec()));
    send(&mut stream, &[b"answer"]).await.unwrap();
    far.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(far.get_mut().1.tls13_tickets_received(), 2);
}

#[tokio::test]
async fn tickets_are_sent_with_close_notify() {
    let (near, far) = duplex(1 << 20);
    let (mut stream, mut far) = connected_unbuffered(near, far).await;
    close(&mut stream).await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(far.get_mut().1.tls13_tickets_received(), 2);
}
