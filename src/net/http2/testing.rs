//! A stream of the h2 library's server, with its client as the peer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, duplex};
use tokio::task::JoinSet;

use super::receiver::StreamReceiver;
use super::stream::{Http2Stream, OpenTunnels};
use super::waiting::{ConnectionWaiting, STREAM_WINDOW, StreamWaiting};
use crate::net::http2::receiver::failure;

/// The client's end of a stream.
#[derive(Debug)]
pub(crate) struct FarStream {
    pub(crate) sender: SendStream<Bytes>,
    pub(crate) receiver: RecvStream,
    received: Bytes,
    /// Keeps the connections running.
    _tasks: JoinSet<()>,
}

/// Connects with a client whose streams have this window.
pub(crate) async fn connected(client_window: u32) -> (Http2Stream, FarStream) {
    let (near, far) = duplex(1 << 20);
    let mut server = server::Builder::new();
    server.initial_window_size(STREAM_WINDOW).initial_connection_window_size(1 << 20);
    let mut client = client::Builder::new();
    client.initial_window_size(client_window).initial_connection_window_size(1 << 24);
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
    (near, FarStream { sender, receiver, received: Bytes::new(), _tasks: tasks })
}

/// Returns the credit for what is read.
impl AsyncRead for FarStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.received.is_empty() {
            match ready!(this.receiver.poll_data(cx)) {
                Some(Ok(data)) => this.received = data,
                Some(Err(error)) => return Poll::Ready(Err(failure(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.received.split_to(this.received.len().min(buf.remaining()));
        this.receiver.flow_control().release_capacity(taken.len()).map_err(failure)?;
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FarStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sender.reserve_capacity(buf.len());
        let mut capacity = self.sender.capacity();
        if capacity == 0 {
            match ready!(self.sender.poll_capacity(cx)) {
                Some(assigned) => capacity = assigned.map_err(failure)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let data = Bytes::copy_from_slice(&buf[..capacity.min(buf.len())]);
        let len = data.len();
        self.sender.send_data(data, false).map_err(failure)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.send_data(Bytes::new(), true).map_err(failure))
    }
}
