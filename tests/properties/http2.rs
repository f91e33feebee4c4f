//! Invariants of a stream of HTTP/2: however its two sides, the connection and flow control take turns, each side
//! receives the bytes that the other one sent, in order, and all of them unless one gave up.

#![allow(clippy::expect_used, clippy::panic, reason = "failing the test is intended")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, server};
use hyper::{Request, Response};
use tidegate::net::http2::receiver::StreamReceiver;
use tidegate::net::http2::stream::{Http2Stream, OpenTunnels};
use tidegate::net::http2::waiting::{ConnectionWaiting, STREAM_WINDOW, StreamWaiting};
use tidegate::net::scratch::{RecvScratch, SendScratch};
use tidegate::net::{Recv, Stream};
use tokio::io::duplex;
use tokio::task::{JoinSet, yield_now};

/// Runs a stream and its client as the script says. Its first byte chooses the window of the client.
pub fn drive(script: &[u8]) {
    let Some((window, script)) = script.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut link = Link::new(u32::from(*window).pow(2).max(WINDOW_MIN)).await;
        let mut script = script.iter().copied();
        while let Some(tag) = script.next() {
            let number = usize::from(script.next().unwrap_or_default());
            match tag % 10 {
                0 | 1 => link.client_sends(number * number),
                2 => link.receive(),
                3 => drop(link.is_ready()),
                4 => link.send(number * number),
                5 => link.client_receives(),
                6 | 7 => link.settle(number).await,
                8 => link.client_ends(),
                _ if number == 0 => link.client_resets(),
                _ => link.close(),
            }
        }
        link.finish().await;
    });
}

struct Link {
    near: Http2Stream,
    sender: SendStream<Bytes>,
    receiver: RecvStream,
    up: Direction,
    down: Direction,
    is_reset: bool,
    _tasks: JoinSet<()>,
}

/// One direction: the bytes are counted, and each follows from its position.
#[derive(Default)]
struct Direction {
    sent: usize,
    received: usize,
    has_ended: bool,
}

impl Direction {
    fn next(&mut self, len: usize) -> Vec<u8> {
        let bytes = (self.sent..self.sent + len).map(byte_at).collect();
        self.sent += len;
        bytes
    }

    fn check(&mut self, bytes: &[u8]) {
        assert!((self.received..).map(byte_at).zip(bytes).all(|(wanted, found)| wanted == *found));
        self.received += bytes.len();
        assert!(self.received <= self.sent);
    }
}

fn byte_at(position: usize) -> u8 {
    (position % 251) as u8
}

impl Link {
    async fn new(window: u32) -> Self {
        let (near, far) = duplex(1 << 16);
        let mut server = server::Builder::new();
        server.initial_window_size(STREAM_WINDOW);
        let mut client = client::Builder::new();
        client.initial_window_size(window);
        let (server, client) =
            tokio::join!(server.handshake::<_, Bytes>(near), client.handshake::<_, Bytes>(far));
        let mut server = server.expect("a connection");
        let (requests, connection) = client.expect("a connection");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let request = Request::get("https://a/").body(()).expect("a request");
        let mut requests = requests.ready().await.expect("a stream");
        let (response, sender) = requests.send_request(request, false).expect("a stream");
        let (request, mut responder) = server.accept().await.expect("one").expect("a request");
        let near_sender = responder.send_response(Response::new(()), false).expect("a stream");
        tasks.spawn(async move { while server.accept().await.is_some() {} });
        let waiting = StreamWaiting::new(Arc::new(ConnectionWaiting::new(Arc::default())));
        let near_receiver = StreamReceiver::new(request.into_body(), waiting);
        let near = Http2Stream::new(OpenTunnels::default(), near_receiver, near_sender);
        let receiver = response.await.expect("a response").into_body();
        let (up, down) = Default::default();
        Self { near, sender, receiver, up, down, is_reset: false, _tasks: tasks }
    }

    async fn settle(&self, times: usize) {
        for _ in 0..times {
            yield_now().await;
        }
    }

    /// Sends as much as flow control permits at once.
    fn client_sends(&mut self, len: usize) {
        if self.up.has_ended || self.is_reset {
            return;
        }
        self.sender.reserve_capacity(len);
        let data = self.up.next(len.min(self.sender.capacity()));
        self.sender.send_data(data.into(), false).expect("the stream is open");
    }

    fn client_ends(&mut self) {
        if !self.up.has_ended && !self.is_reset {
            self.up.has_ended = true;
            self.sender.send_data(Bytes::new(), true).expect("the stream is open");
        }
    }

    fn client_resets(&mut self) {
        self.is_reset = true;
        self.sender.send_reset(Reason::CANCEL);
    }

    fn client_receives(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(data)) = self.receiver.poll_data(cx) {
            let Ok(data) = data else {
                assert!(self.is_reset);
                return;
            };
            self.down.check(&data);
            // Fails only if the stream was reset.
            let _ = self.receiver.flow_control().release_capacity(data.len());
        }
    }

    fn receive(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut scratch = RecvScratch::new();
        match self.near.poll_recv(cx, &mut scratch) {
            Poll::Ready(Ok(Recv::Data(data))) => self.up.check(data),
            Poll::Ready(Ok(Recv::Closed)) => {
                assert!(self.is_reset || self.up.has_ended && self.up.received == self.up.sent);
            }
            Poll::Ready(Ok(Recv::Truncated) | Err(_)) => assert!(self.is_reset),
            Poll::Pending => {}
        }
    }

    fn is_ready(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let ready = self.near.poll_ready(cx);
        assert!(!matches!(ready, Poll::Ready(Err(_))) || self.is_reset);
        matches!(ready, Poll::Ready(Ok(())))
    }

    fn send(&mut self, len: usize) {
        if self.down.has_ended || !self.is_ready() {
            return;
        }
        let data = self.down.next(len);
        let cx = &mut Context::from_waker(Waker::noop());
        let (first, second) = data.split_at(len / 3);
        let sent = self.near.send(cx, &[first, second], &mut SendScratch::default());
        assert!(sent.is_ok() || self.is_reset);
        assert!(self.near.backlog() <= len);
    }

    fn close(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        self.down.has_ended = true;
        let closed = self.near.poll_close(cx, &mut SendScratch::default());
        assert!(!matches!(closed, Poll::Ready(Err(_))) || self.is_reset);
    }

    /// Lets both sides receive everything.
    async fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.is_reset
                || self.up.received == self.up.sent && self.down.received == self.down.sent
            {
                return;
            }
            self.receive();
            self.is_ready();
            self.client_receives();
            self.settle(2).await;
        }
        panic!("{} of {} bytes arrived", self.down.received, self.down.sent);
    }
}

/// With a smaller window, what one side sends at once takes too many turns to arrive.
const WINDOW_MIN: u32 = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn random_http2_streams_keep_the_invariants(script in prop::collection::vec(any::<u8>(), 1..80)) {
            super::drive(&script);
        }
    }

    #[test]
    fn http2_fuzz_corpus_keeps_the_invariants() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/http2");
        let files: Vec<_> = fs::read_dir(corpus).expect("a corpus").collect();
        assert!(files.len() >= 10, "the corpus of http2 is incomplete");
        for file in files {
            super::drive(&fs::read(file.expect("a file").path()).expect("readable"));
        }
    }
}
