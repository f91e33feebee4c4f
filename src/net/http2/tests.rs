//! Streams of the h2 library's server, with its client as the peer.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use hyper::HeaderMap;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::testing::connected;
use super::waiting::STREAM_WINDOW;
use crate::net::Stream as _;
use crate::net::testing::{Received, close, ready, recv, send};

async fn received(receiver: &mut RecvStream, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let data = receiver.data().await.unwrap().unwrap();
        receiver.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

/// Waits until nothing moves any more.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    let (mut near, mut far) = connected(1 << 16).await;
    ready(&mut near).await.unwrap();
    far.sender.send_data(Bytes::from_static(b"question"), false).unwrap();
    assert_eq!(recv(&mut near).await.unwrap(), Received::Data(b"question".to_vec()));
    send(&mut near, &[b"an", b"", b"swer"]).await.unwrap();
    assert_eq!(received(&mut far.receiver, 6).await, b"answer");
    assert_eq!(near.backlog(), 0);
}

#[tokio::test]
async fn credit_is_given_with_the_next_read() {
    let (mut near, mut far) = connected(1 << 16).await;
    let window = STREAM_WINDOW as usize;
    far.sender.reserve_capacity(2 * window);
    far.sender.send_data(Bytes::from(vec![7; window]), false).unwrap();
    settle().await;
    let Received::Data(data) = recv(&mut near).await.unwrap() else { panic!("no data") };
    assert_eq!(data.len(), window);
    settle().await;
    far.sender.reserve_capacity(1);
    assert_eq!(far.sender.capacity(), 0);
    // The tunnel reads again once these bytes went to the backend.
    let reading = timeout(Duration::from_millis(50), recv(&mut near)).await;
    assert!(reading.is_err());
    settle().await;
    far.sender.reserve_capacity(window);
    assert_eq!(far.sender.capacity(), window);
}

#[tokio::test]
async fn small_frames_are_kept_in_one_piece() {
    let (mut near, mut far) = connected(1 << 16).await;
    for byte in 0..200_u8 {
        far.sender.send_data(Bytes::from(vec![byte; 8]), false).unwrap();
        settle().await;
        // The other side of the tunnel is blocked: nothing is read.
        ready(&mut near).await.unwrap();
    }
    let all: Vec<u8> = (0..200).flat_map(|byte| [byte; 8]).collect();
    assert_eq!(near.kept(), all.len());
    assert_eq!(recv(&mut near).await.unwrap(), Received::Data(all));
    assert_eq!(near.kept(), 0);
}

#[tokio::test]
async fn backlog_follows_flow_control() {
    let (mut near, mut far) = connected(10).await;
    send(&mut near, &[b"0123456789", b"abcdefghijklmnopqrst"]).await.unwrap();
    assert_eq!(near.backlog(), 20);
    let blocked = timeout(Duration::from_millis(50), ready(&mut near)).await;
    assert!(blocked.is_err());
    let (written, read) = tokio::join!(ready(&mut near), received(&mut far.receiver, 20));
    written.unwrap();
    assert_eq!((&read[..], near.backlog()), (&b"0123456789abcdefghij"[..], 0));
    assert_eq!(received(&mut far.receiver, 10).await, b"klmnopqrst");
}

#[tokio::test]
async fn directions_end_one_by_one() {
    let (mut near, mut far) = connected(4).await;
    send(&mut near, &[b"goodbye!"]).await.unwrap();
    let (closed, read) = tokio::join!(close(&mut near), received(&mut far.receiver, 8));
    closed.unwrap();
    close(&mut near).await.unwrap();
    assert_eq!(read, b"goodbye!");
    assert!(far.receiver.data().await.unwrap().unwrap().is_empty());
    assert!(far.receiver.is_end_stream());
    far.sender.send_data(Bytes::from_static(b"late"), true).unwrap();
    assert_eq!(recv(&mut near).await.unwrap(), Received::Data(b"late".to_vec()));
    assert_eq!(recv(&mut near).await.unwrap(), Received::Closed);
    assert_eq!(recv(&mut near).await.unwrap(), Received::Closed);
}

#[tokio::test]
async fn drop_delivers_what_was_sent() {
    let (mut near, mut far) = connected(1 << 16).await;
    send(&mut near, &[b"the last words"]).await.unwrap();
    drop(near);
    assert_eq!(received(&mut far.receiver, 14).await, b"the last words");
    assert!(far.receiver.data().await.is_none_or(|data| data.unwrap().is_empty()));
}

#[tokio::test]
async fn abort_resets_the_stream() {
    // Without it, a stream whose data may not be sent is reset when it is dropped.
    for aborts in [true, false] {
        let (mut near, mut far) = connected(if aborts { 1 << 16 } else { 4 }).await;
        send(&mut near, &[b"the last words"]).await.unwrap();
        if aborts {
            near.abort();
        }
        drop(near);
        while let Some(Ok(_)) = far.receiver.data().await {}
        let reset = poll_fn(|cx| far.sender.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::CANCEL);
    }
}

#[tokio::test]
async fn abort_after_the_end_is_no_error() {
    let (mut near, mut far) = connected(1 << 16).await;
    send(&mut near, &[b"the last words"]).await.unwrap();
    close(&mut near).await.unwrap();
    near.abort();
    drop(near);
    assert_eq!(received(&mut far.receiver, 14).await, b"the last words");
    let reset = poll_fn(|cx| far.sender.poll_reset(cx)).await.unwrap();
    assert_eq!(reset, Reason::NO_ERROR);
}

#[tokio::test]
async fn resets_and_trailers_are_errors() {
    let (mut near, mut far) = connected(1 << 16).await;
    far.sender.send_reset(Reason::CANCEL);
    recv(&mut near).await.unwrap_err();
    drop(send(&mut near, &[b"late"]).await);
    ready(&mut near).await.unwrap_err();
    let (mut near, mut far) = connected(1 << 16).await;
    let trailers = HeaderMap::from_iter([("x-a".parse().unwrap(), "1".parse().unwrap())]);
    far.sender.send_trailers(trailers).unwrap();
    recv(&mut near).await.unwrap_err();
    let error = poll_fn(|cx| far.receiver.poll_data(cx)).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
}
