//! The backend's WebSocket endpoints: the opening handshake, the echo and the chat.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::{Reply, State, status};
use crate::chat_room::User;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers an opening handshake (RFC 6455 4.2.2) and runs `serve` on the upgraded connection.
/// Anything else is answered with 426.
pub(super) fn upgrade<S, F>(
    mut request: Request<Incoming>,
    state: &Arc<State>,
    permit: &Arc<OwnedSemaphorePermit>,
    serve: S,
) -> Reply
where
    S: FnOnce(Socket, Arc<State>) -> F + Send + 'static,
    F: Future<Output = Result<(), Error>> + Send,
{
    let Some(accept) = accept_key(request.headers()) else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let shared = Arc::clone(state);
    let permit = Arc::clone(permit);
    let serving = async move {
        let Ok(upgraded) = upgrading.await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
        // The demo has no log for connections that break off.
        let _ = serve(socket, shared).await;
        drop(permit);
    };
    let stop = state.stop.clone();
    state.tasks.spawn(async move { stop.run_until_cancelled(serving).await });

    let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

/// The value of `Sec-WebSocket-Accept`, or `None` if this is not an opening handshake.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?.to_str().ok()?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    if !protocol.eq_ignore_ascii_case("websocket") {
        return None;
    }
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

/// Sends every message back unchanged.
pub(super) async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_text() || message.is_binary() {
            send(&mut socket, message).await?;
        }
    }
    Ok(())
}

/// Adds a user to the chat room and relays messages until either side closes.
pub(super) async fn chat(mut socket: Socket, state: Arc<State>) -> Result<(), Error> {
    let Some(user) = state.room.join() else {
        return close(&mut socket, CloseCode::Again, "the chat is full").await;
    };
    relay(&mut socket, user).await
}

async fn relay(socket: &mut Socket, mut user: User) -> Result<(), Error> {
    let pause = sleep(Duration::ZERO);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            message = user.recv() => match message {
                Some(text) => send(socket, Message::Text(text)).await?,
                None => return close(socket, CloseCode::Again, "you read too slowly").await,
            },
            // The pause between two messages of one user keeps that user from flooding the room.
            message = socket.next(), if pause.is_elapsed() => match message.transpose()? {
                Some(Message::Text(text)) if text.len() > CHAT_TEXT_MAX => {
                    return close(socket, CloseCode::Size, "a chat message has 2 KiB at most").await;
                }
                Some(Message::Text(text)) => {
                    user.send(&text);
                    pause.as_mut().reset(Instant::now() + CHAT_PAUSE);
                }
                Some(_) => {}
                None => return Ok(()),
            },
            () = &mut pause, if !pause.is_elapsed() => {}
        }
    }
}

/// Sends one message. Fails with `TimedOut` if the peer does not read it within [`SEND_TIMEOUT`].
async fn send(socket: &mut Socket, message: Message) -> Result<(), Error> {
    match timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Sends a Close frame and waits up to [`CLOSE_TIMEOUT`] for the peer's (RFC 6455 7.1.2).
async fn close(socket: &mut Socket, code: CloseCode, reason: &'static str) -> Result<(), Error> {
    let reason = Utf8Bytes::from_static(reason);
    send(socket, Message::Close(Some(CloseFrame { code, reason }))).await?;
    let answered = async {
        while socket.next().await.transpose()?.is_some() {}
        Ok(())
    };
    timeout(CLOSE_TIMEOUT, answered).await.unwrap_or(Ok(()))
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .max_write_buffer_size(2 * MESSAGE_MAX)
}

/// Largest message in bytes: above the proxy's limit, so that the proxy is the one to reject.
const MESSAGE_MAX: usize = 4 << 20;

/// Largest chat message in bytes.
pub(super) const CHAT_TEXT_MAX: usize = 2 << 10;

/// Minimum time between two chat messages of one user.
const CHAT_PAUSE: Duration = Duration::from_millis(50);

/// Time a peer has to read one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Time a peer has to answer a Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
