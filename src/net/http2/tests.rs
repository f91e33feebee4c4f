//! Streams of the h2 library's server, with its client as the peer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, server};
use hyper::{HeaderMap, Request, Response};
use tokio::io::duplex;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::receiver::StreamReceiver;
use super::stream::{Http2Stream, OpenTunnels};
use super::waiting::{ConnectionWaiting, STREAM_WINDOW, StreamWaiting};
use crate::net::Stream as _;
use crate::net::testing::{Received, close, ready, recv, send};

/// A stream and its client.
struct Connected {
    near: Http2Stream,
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    /// Keeps the connections running.
    _tasks: JoinSet<()>,
}

/// Connects with a client whose streams have this window.
async fn connected(client_window: u32) -> Connected {
    let (near, far) = duplex(1 << 20);
    let mut server = server::Builder::new();
    server.initial_window_size(STREAM_WINDOW).initial_connection_window_size(1 << 20);
    let mut client = client::Builder::new();
    client.initial_window_size(client_window);
    let (server, client) =
        tokio::join!(server.handshake::<_, Bytes>(near), client.handshake::<_, Bytes>(far));
    let (mut server, (requests, connection)) = (server.unwrap(), client.unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let request = Request::get("https://a/").body(()).unwrap();
    let (response, sender) = requests.ready().await.unwrap().send_request(request, false).unwrap();
    let (request, mut responder) = server.accept().await.unwrap().unwrap();
    let near_sender = responder.send_response(Response::new(()), false).unwrap();
    tasks.spawn(async move { while server.accept().await.is_some() {} });
    let waiting = StreamWaiting::new(Arc::new(ConnectionWaiting::new(Arc::default())));
    let near_receiver = StreamReceiver::new(request.into_body(), waiting);
    let near = Http2Stream::new(OpenTunnels::default(), near_receiver, near_sender);
    let receiver = response.await.unwrap().into_body();
    Connected { near, sender, receiver, _tasks: tasks }
}

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
    let mut pair = connected(1 << 16).await;
    ready(&mut pair.near).await.unwrap();
    pair.sender.send_data(Bytes::from_static(b"question"), false).unwrap();
    assert_eq!(recv(&mut pair.near).await.unwrap(), Received::Data(b"question".to_vec()));
    send(&mut pair.near, &[b"an", b"", b"swer"]).await.unwrap();
    assert_eq!(received(&mut pair.receiver, 6).await, b"answer");
    assert_eq!(pair.near.backlog(), 0);
}

#[tokio::test]
async fn credit_is_given_with_the_next_read() {
    let mut pair = connected(1 << 16).await;
    let window = STREAM_WINDOW as usize;
    pair.sender.reserve_capacity(2 * window);
    pair.sender.send_data(Bytes::from(vec![7; window]), false).unwrap();
    settle().await;
    let Received::Data(data) = recv(&mut pair.near).await.unwrap() else { panic!("no data") };
    assert_eq!(data.len(), window);
    settle().await;
    pair.sender.reserve_capacity(1);
    assert_eq!(pair.sender.capacity(), 0);
    // The tunnel reads again once these bytes went to the backend.
    let reading = timeout(Duration::from_millis(50), recv(&mut pair.near)).await;
    assert!(reading.is_err());
    settle().await;
    pair.sender.reserve_capacity(window);
    assert_eq!(pair.sender.capacity(), window);
}

#[tokio::test]
async fn small_frames_are_kept_in_one_piece() {
    let mut pair = connected(1 << 16).await;
    for byte in 0..200_u8 {
        pair.sender.send_data(Bytes::from(vec![byte; 8]), false).unwrap();
        settle().await;
        // The other side of the tunnel is blocked: nothing is read.
        ready(&mut pair.near).await.unwrap();
    }
    let all: Vec<u8> = (0..200).flat_map(|byte| [byte; 8]).collect();
    assert_eq!(pair.near.kept(), all.len());
    assert_eq!(recv(&mut pair.near).await.unwrap(), Received::Data(all));
    assert_eq!(pair.near.kept(), 0);
}

#[tokio::test]
async fn backlog_follows_flow_control() {
    let mut pair = connected(10).await;
    send(&mut pair.near, &[b"0123456789", b"abcdefghijklmnopqrst"]).await.unwrap();
    assert_eq!(pair.near.backlog(), 20);
    let blocked = timeout(Duration::from_millis(50), ready(&mut pair.near)).await;
    assert!(blocked.is_err());
    let (written, read) = tokio::join!(ready(&mut pair.near), received(&mut pair.receiver, 20));
    written.unwrap();
    assert_eq!((&read[..], pair.near.backlog()), (&b"0123456789abcdefghij"[..], 0));
    assert_eq!(received(&mut pair.receiver, 10).await, b"klmnopqrst");
}

#[tokio::test]
async fn directions_end_one_by_one() {
    let mut pair = connected(4).await;
    send(&mut pair.near, &[b"goodbye!"]).await.unwrap();
    let (closed, read) = tokio::join!(close(&mut pair.near), received(&mut pair.receiver, 8));
    closed.unwrap();
    close(&mut pair.near).await.unwrap();
    assert_eq!(read, b"goodbye!");
    assert!(pair.receiver.data().await.unwrap().unwrap().is_empty());
    assert!(pair.receiver.is_end_stream());
    pair.sender.send_data(Bytes::from_static(b"late"), true).unwrap();
    assert_eq!(recv(&mut pair.near).await.unwrap(), Received::Data(b"late".to_vec()));
    assert_eq!(recv(&mut pair.near).await.unwrap(), Received::Closed);
    assert_eq!(recv(&mut pair.near).await.unwrap(), Received::Closed);
}

#[tokio::test]
async fn drop_delivers_what_was_sent() {
    let mut pair = connected(1 << 16).await;
    send(&mut pair.near, &[b"the last words"]).await.unwrap();
    drop(pair.near);
    assert_eq!(received(&mut pair.receiver, 14).await, b"the last words");
    assert!(pair.receiver.data().await.is_none_or(|data| data.unwrap().is_empty()));
}

#[tokio::test]
async fn abort_resets_the_stream() {
    // Without it, a stream whose data may not be sent is reset when it is dropped.
    for aborts in [true, false] {
        let mut pair = connected(if aborts { 1 << 16 } else { 4 }).await;
        send(&mut pair.near, &[b"the last words"]).await.unwrap();
        if aborts {
            pair.near.abort();
        }
        drop(pair.near);
        while let Some(Ok(_)) = pair.receiver.data().await {}
        let reset = poll_fn(|cx| pair.sender.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::CANCEL);
    }
}

#[tokio::test]
async fn resets_and_trailers_are_errors() {
    let mut pair = connected(1 << 16).await;
    pair.sender.send_reset(Reason::CANCEL);
    recv(&mut pair.near).await.unwrap_err();
    drop(send(&mut pair.near, &[b"late"]).await);
    ready(&mut pair.near).await.unwrap_err();
    let mut pair = connected(1 << 16).await;
    let trailers = HeaderMap::from_iter([("x-a".parse().unwrap(), "1".parse().unwrap())]);
    pair.sender.send_trailers(trailers).unwrap();
    recv(&mut pair.near).await.unwrap_err();
    let error = poll_fn(|cx| pair.receiver.poll_data(cx)).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
}
