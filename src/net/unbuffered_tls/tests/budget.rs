//! Reads whose records exceed the budget of one poll, and the rate of records without data.

use std::task::{Context, Poll, Waker};

use rustls::ClientConnection;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::is_idle;
use crate::net::scratch::RecvScratch;
use crate::net::testing::{
    Received, UnbufferedTlsStream, close, connected_unbuffered, ready, recv, send,
};
use crate::net::tls_records::{WITHOUT_DATA_MAX, WITHOUT_DATA_PERIOD};
use crate::net::{Recv, Stream};

/// A stream, the pipe to it, and the client whose records are to be written to that pipe.
async fn connected() -> (UnbufferedTlsStream<DuplexStream>, DuplexStream, ClientConnection) {
    let (near, far) = duplex(1 << 20);
    let (mut stream, far) = connected_unbuffered(near, far).await;
    ready(&mut stream).await.unwrap();
    let (pipe, client) = far.into_inner();
    (stream, pipe, client)
}

/// The records of the client for `updates` key updates and one byte of data.
fn key_updates(client: &mut ClientConnection, updates: usize) -> Vec<u8> {
    (0..updates).for_each(|_| client.refresh_traffic_keys().unwrap());
    records(client, b"x")
}

fn records(client: &mut ClientConnection, data: &[u8]) -> Vec<u8> {
    std::io::Write::write_all(&mut client.writer(), data).unwrap();
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).unwrap();
    }
    sent
}

/// Polls once; returns the length of the data.
fn poll_once(
    stream: &mut UnbufferedTlsStream<DuplexStream>,
    scratch: &mut RecvScratch,
) -> Option<usize> {
    match stream.poll_recv(&mut Context::from_waker(Waker::noop()), scratch) {
        Poll::Ready(Ok(Recv::Data(data))) => Some(data.len()),
        Poll::Pending => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_small_records_are_decrypted_in_several_polls() {
    let (mut stream, mut pipe, mut client) = connected().await;
    let sent: Vec<u8> = (0..1750).flat_map(|_| records(&mut client, b"x")).collect();
    pipe.write_all(&sent).await.unwrap();
    // The buffer of the HTTP phase may be smaller than what is kept.
    let (mut large, mut small) = (RecvScratch::new(), RecvScratch::with_capacity(0));
    // The read has its cost as well.
    assert_eq!(poll_once(&mut stream, &mut large), Some(484));
    assert!(stream.undecrypted.len() > small.ciphertext.len());
    send(&mut stream, &[b"in between"]).await.unwrap();
    let mut polls = Vec::new();
    for _ in 0..7 {
        polls.push(poll_once(&mut stream, &mut small));
    }
    assert_eq!(polls, [None, Some(500), None, Some(500), None, Some(266), None]);
    assert!(is_idle(&stream));
}

#[tokio::test]
async fn key_updates_yield_and_wake_the_task() {
    let (mut stream, mut pipe, mut client) = connected().await;
    let burst: Vec<u8> = (0..20).flat_map(|_| key_updates(&mut client, 30)).collect();
    pipe.write_all(&burst).await.unwrap();
    let mut received = 0;
    while received < 20 {
        let Received::Data(data) = recv(&mut stream).await.unwrap() else { panic!() };
        // One poll decrypts about 125 of them, with a byte after every thirty.
        assert!(data.len() <= 5, "{}", data.len());
        received += data.len();
    }
    send(&mut stream, &[b"answer"]).await.unwrap();
    assert!(stream.undecrypted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rate_of_records_without_data_is_limited() {
    let (mut stream, mut pipe, mut client) = connected().await;
    // In each period as many as are accepted, then one more.
    for _ in 0..2 {
        tokio::time::advance(WITHOUT_DATA_PERIOD).await;
        for _ in 0..WITHOUT_DATA_MAX / 25 {
            pipe.write_all(&key_updates(&mut client, 25)).await.unwrap();
            assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"x".to_vec()));
        }
    }
    pipe.write_all(&key_updates(&mut client, 1)).await.unwrap();
    assert_eq!(recv(&mut stream).await.unwrap(), Received::Data(b"x".to_vec()));
    for _ in 0..2 {
        let error = recv(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        let expected = "unexpected error: more than 1000 TLS records without data within 10 s";
        assert_eq!(error.to_string(), expected);
    }
    close(&mut stream).await.unwrap();
}
