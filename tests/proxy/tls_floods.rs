//! Floods of TLS records that carry no data, inside a tunnel.

use tokio::io::AsyncWriteExt;

use crate::support::{TestBed, TlsClientStream, assert_relays, close_normally, wire};

/// Sends a text message in records of one byte, each after thirty key updates: rustls accepts 32
/// without data in between.
async fn send_among_key_updates(client: &mut TlsClientStream) -> std::io::Result<()> {
    for byte in wire::masked(0x80 | wire::TEXT, b"x") {
        for _ in 0..30 {
            client.get_mut().get_mut().1.refresh_traffic_keys().unwrap();
        }
        client.write_all(&[byte]).await?;
    }
    client.flush().await
}

#[tokio::test]
async fn key_updates_end_only_the_tunnel_that_floods() {
    let bed = TestBed::with("").await;
    let (mut quiet, mut quiet_backend) = bed.open_secure().await;
    let (mut flooding, mut backend) = bed.open_secure().await;
    // 840 of the 1,000 key updates that ten seconds allow.
    for _ in 0..4 {
        send_among_key_updates(&mut flooding).await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"x");
    }
    assert_relays(&mut flooding, &mut backend).await;
    // The connection may end while the client still sends.
    for _ in 0..100 {
        if send_among_key_updates(&mut flooding).await.is_err() {
            break;
        }
    }
    let record = bed.tunnel_end(2).await;
    assert_eq!([&record["end"], &record["by"]], ["client_disconnected", "client"]);
    assert_relays(&mut quiet, &mut quiet_backend).await;
    close_normally(quiet, quiet_backend).await;
}
