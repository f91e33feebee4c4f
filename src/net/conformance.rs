//! Behaviour that both TLS streams must share, with rustls' own client as the peer.

use std::io::Write;

use rustls::ContentType;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::testing::forge::Forger;
use super::testing::{Received, close, connected_tokio, connected_unbuffered, ready, recv, send};
use crate::net::{SEND_BYTES_MAX, Stream};

/// Runs each test body with both streams, over a pipe with a capacity of `$capacity` bytes.
macro_rules! both_streams {
    ($($name:ident over $capacity:expr),* $(,)?) => {
        mod tokio_tls {
            $(#[tokio::test]
            async fn $name() {
                let (near, far) = super::duplex($capacity);
                let (stream, far) = super::connected_tokio(near, far).await;
                super::$name(stream, far).await;
            })*
        }

        mod unbuffered_tls {
            $(#[tokio::test]
            async fn $name() {
                let (near, far) = super::duplex($capacity);
                let (stream, far) = super::connected_unbuffered(near, far).await;
                super::$name(stream, far).await;
            })*
        }
    };
}

both_streams! {
    bytes_pass_both_ways over 64 * 1024,
    backlog_grows_on_a_full_pipe_and_shrinks over 4096,
    close_notify_precedes_fin over 4096,
    fin_without_close_notify_is_truncation over 4096,
    flipped_bit_is_an_error_and_sends_an_alert over 4096,
    key_update_between_data_is_answered over 4096,
    data_after_close_notify_is_ignored over 4096,
    received_alert_is_an_error over 4096,
    fin_within_a_handshake_message_is_truncation over 4096,
}

type TlsClient = TlsStream<DuplexStream>;

async fn bytes_pass_both_ways(mut stream: impl Stream, mut far: TlsClient) {
    ready(&mut stream).await.unwrap();
    far.write_all(b"question").await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"question".to_vec()));
    send(&mut stream, &[b"an", b"", b"swer"]).await.unwrap();
    let mut got = [0; 6];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!((&got, stream.backlog()), (b"answer", 0));
}

async fn backlog_grows_on_a_full_pipe_and_shrinks(mut stream: impl Stream, mut far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let block: Vec<u8> = (0..=255).cycle().take(SEND_BYTES_MAX).collect();
    send(&mut stream, &[&block[..5], &block[5..]]).await.unwrap();
    let before = stream.backlog();
    // Five records with 22 bytes of overhead each (RFC 8446 5.2), minus the capacity of the pipe,
    // which also holds the tickets.
    let encrypted = SEND_BYTES_MAX + 5 * 22;
    assert!((encrypted - 4096..encrypted - 3072).contains(&before), "{before} of {encrypted}");

    let mut got = vec![0; 1000];
    tokio::select! {
        written = ready(&mut stream) => panic!("{written:?} although the pipe is full"),
        read = far.read_exact(&mut got) => read.unwrap(),
    };
    assert!(stream.backlog() < before, "{} of {before}", stream.backlog());

    let mut rest = vec![0; block.len() - got.len()];
    let (written, read) = tokio::join!(ready(&mut stream), far.read_exact(&mut rest));
    written.unwrap();
    read.unwrap();
    got.append(&mut rest);
    assert_eq!((got == block, stream.backlog()), (true, 0));
}

// Requirements: H38.
async fn close_notify_precedes_fin(mut stream: impl Stream, mut far: TlsClient) {
    send(&mut stream, &[b"last data"]).await.unwrap();
    close(&mut stream).await.unwrap();
    close(&mut stream).await.unwrap();
    let mut got = Vec::new();
    // Without close_notify this would be an error.
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last data");
    // The other direction stays open.
    far.write_all(b"late").await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"late".to_vec()));
    far.shutdown().await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
}

// Requirements: TL25.
async fn fin_without_close_notify_is_truncation(mut stream: impl Stream, mut far: TlsClient) {
    far.write_all(b"half a sen").await.unwrap();
    drop(far.into_inner());
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"half a sen".to_vec()));
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Truncated);
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Truncated);
}

async fn flipped_bit_is_an_error_and_sends_an_alert(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    let mut record = encrypted(&mut tls, b"data");
    *record.last_mut().unwrap() ^= 1;
    pipe.write_all(&record).await.unwrap();
    assert!(recv(&mut stream).await.is_err());
    drop(stream);
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.unwrap();
    let mut answer = &answer[..];
    tls.read_tls(&mut answer).unwrap();
    let error = tls.process_new_packets().unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

async fn key_update_between_data_is_answered(mut stream: impl Stream, mut far: TlsClient) {
    far.write_all(b"before").await.unwrap();
    far.get_mut().1.refresh_traffic_keys().unwrap();
    far.write_all(b"after").await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"beforeafter".to_vec()));
    send(&mut stream, &[b"answer"]).await.unwrap();
    ready(&mut stream).await.unwrap();
    let mut got = [0; 6];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"answer");
}

async fn data_after_close_notify_is_ignored(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    let last = encrypted(&mut tls, b"last data");
    tls.send_close_notify();
    let mut close_notify = Vec::new();
    tls.write_tls(&mut close_notify).unwrap();
    pipe.write_all(&[&last[..], &close_notify, &last, b"GET / HTTP/1.1\r\n"].concat())
        .await
        .unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"last data".to_vec()));
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    pipe.write_all(&last).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    // The sending direction stays open.
    send(&mut stream, &[b"answer"]).await.unwrap();
    close(&mut stream).await.unwrap();
    drop(stream);
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.unwrap();
    let mut answer = &answer[..];
    while !answer.is_empty() {
        tls.read_tls(&mut answer).unwrap();
        tls.process_new_packets().unwrap();
    }
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut tls.reader(), &mut got).unwrap();
    assert_eq!(got, b"answer");
}

async fn received_alert_is_an_error(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    // An unexpected record makes the client send an alert.
    tls.read_tls(&mut &b"\x17\x03\x03\0\x02hi"[..]).unwrap();
    tls.process_new_packets().unwrap_err();
    let mut alert = Vec::new();
    tls.write_tls(&mut alert).unwrap();
    pipe.write_all(&alert).await.unwrap();
    let error = recv(&mut stream).await.unwrap_err();
    let error = error.downcast::<rustls::Error>().unwrap();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
}

async fn fin_within_a_handshake_message_is_truncation(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, tls) = far.into_inner();
    let mut forger = Forger::new(tls);
    let records = [forger.data(b"data"), forger.record(ContentType::Handshake, &[24])].concat();
    pipe.write_all(&records).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"data".to_vec()));
    pipe.shutdown().await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Truncated);
    send(&mut stream, &[b"answer"]).await.unwrap();
    close(&mut stream).await.unwrap();
    drop(stream);
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 2 * 22, "data and close_notify");
}

/// The records of the client for `data`.
fn encrypted(tls: &mut rustls::ClientConnection, data: &[u8]) -> Vec<u8> {
    tls.writer().write_all(data).unwrap();
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records).unwrap();
    }
    records
}
