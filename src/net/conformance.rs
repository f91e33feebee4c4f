//! What both TLS streams must do alike, with rustls' own client at the far end.

use std::io::Write;

use rustls::ContentType;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::testing::forge::Forger;
use super::testing::{Received, close, ready, recv, send, shake, shake_lean};
use crate::net::{SEND_BYTES_MAX, Stream};

/// One test for each stream from one body, which gets both ends of a pipe that takes `$room` bytes.
macro_rules! alike {
    ($($name:ident over $room:expr),* $(,)?) => {
        mod stock {
            $(#[tokio::test]
            async fn $name() {
                let (near, far) = super::duplex($room);
                let (stream, far) = super::shake(near, far).await;
                super::$name(stream, far).await;
            })*
        }

        mod lean {
            $(#[tokio::test]
            async fn $name() {
                let (near, far) = super::duplex($room);
                let (stream, far) = super::shake_lean(near, far).await;
                super::$name(stream, far).await;
            })*
        }
    };
}

alike! {
    bytes_pass_both_ways over 64 * 1024,
    a_full_pipe_shows_as_a_backlog_that_shrinks over 4096,
    close_notify_precedes_fin over 4096,
    fin_without_close_notify_is_truncation over 4096,
    a_flipped_bit_is_an_error_and_draws_an_alert over 4096,
    a_key_update_in_the_middle_of_data_is_answered over 4096,
    what_comes_after_close_notify_is_dropped over 4096,
    an_alert_is_an_error over 4096,
    a_stream_that_ends_inside_a_handshake_message_is_closed_like_any_other over 4096,
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

async fn a_full_pipe_shows_as_a_backlog_that_shrinks(mut stream: impl Stream, mut far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let block: Vec<u8> = (0..=255).cycle().take(SEND_BYTES_MAX).collect();
    send(&mut stream, &[&block[..5], &block[5..]]).await.unwrap();
    let before = stream.backlog();
    // Five records, 22 bytes around each (RFC 8446 5.2), less what the pipe took; it also holds
    // the tickets.
    let sealed = SEND_BYTES_MAX + 5 * 22;
    assert!((sealed - 4096..sealed - 3072).contains(&before), "{before} of {sealed}");

    let mut got = vec![0; 1000];
    tokio::select! {
        written = ready(&mut stream) => panic!("{written:?} though hardly anything was read"),
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
    send(&mut stream, &[b"last words"]).await.unwrap();
    close(&mut stream).await.unwrap();
    close(&mut stream).await.unwrap();
    let mut got = Vec::new();
    // Without close_notify this would be an error.
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    // Half closed: the other direction goes on.
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

async fn a_flipped_bit_is_an_error_and_draws_an_alert(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    let mut record = sealed(&mut tls, b"data");
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

async fn a_key_update_in_the_middle_of_data_is_answered(
    mut stream: impl Stream,
    mut far: TlsClient,
) {
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

async fn what_comes_after_close_notify_is_dropped(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    let last = sealed(&mut tls, b"last words");
    tls.send_close_notify();
    let mut farewell = Vec::new();
    tls.write_tls(&mut farewell).unwrap();
    pipe.write_all(&[&last[..], &farewell, &last, b"GET / HTTP/1.1\r\n"].concat()).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"last words".to_vec()));
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    pipe.write_all(&last).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Closed);
    // Our direction goes on.
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

async fn an_alert_is_an_error(mut stream: impl Stream, far: TlsClient) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, mut tls) = far.into_inner();
    // What does not belong here makes the client send one.
    tls.read_tls(&mut &b"\x17\x03\x03\0\x02hi"[..]).unwrap();
    tls.process_new_packets().unwrap_err();
    let mut alert = Vec::new();
    tls.write_tls(&mut alert).unwrap();
    pipe.write_all(&alert).await.unwrap();
    let error = recv(&mut stream).await.unwrap_err();
    let error = error.downcast::<rustls::Error>().unwrap();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
}

async fn a_stream_that_ends_inside_a_handshake_message_is_closed_like_any_other(
    mut stream: impl Stream,
    far: TlsClient,
) {
    ready(&mut stream).await.unwrap();
    let (mut pipe, tls) = far.into_inner();
    let mut forger = Forger::new(tls);
    let begun = [forger.data(b"data"), forger.record(ContentType::Handshake, &[24])].concat();
    pipe.write_all(&begun).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"data".to_vec()));
    pipe.shutdown().await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Truncated);
    send(&mut stream, &[b"answer"]).await.unwrap();
    close(&mut stream).await.unwrap();
    drop(stream);
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 2 * 22, "an answer and a farewell");
}

/// What carries `data`.
fn sealed(tls: &mut rustls::ClientConnection, data: &[u8]) -> Vec<u8> {
    tls.writer().write_all(data).unwrap();
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records).unwrap();
    }
    records
}
