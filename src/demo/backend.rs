//! The demo's backend: a page, an echo and a chat on a plain loopback port.
//!
//! Stands for the application behind the proxy. An endpoint is not what tidegate is, so libraries
//! serve HTTP (hyper) and WebSockets (tungstenite) here. Knows nothing of the proxy but the channel
//! that asks for a drain.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hall::{Hall, Seat};
use super::page::Page;

/// A running backend; [`Backend::stop`] ends it.
#[derive(Debug)]
pub struct Backend {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Backend {
    /// Serves on `listener`. A press on the page's drain button is sent to `drain`; while that
    /// channel is full, a further press is answered 503.
    pub fn start(listener: TcpListener, page: Page, drain: mpsc::Sender<()>) -> Self {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let house = Arc::new(House {
            page,
            drain,
            hall: Arc::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        tasks.spawn(accept(listener, house));
        Self { tasks, stop }
    }

    /// Ends every conversation and waits until all tasks are gone.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What all connections share.
struct House {
    page: Page,
    drain: mpsc::Sender<()>,
    hall: Arc<Hall>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Reply = Response<Full<Bytes>>;

async fn accept(listener: TcpListener, house: Arc<House>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        // The semaphore is never closed, so this goes on for ever.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    house.tasks.spawn(connection(stream, Arc::clone(&house), Arc::new(place)));
                }
                // Mostly no descriptors left: give others time to return some.
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    house.stop.run_until_cancelled(accepting).await;
}

/// One TCP connection up to its end, or up to the 101.
async fn connection(stream: TcpStream, house: Arc<House>, place: Arc<OwnedSemaphorePermit>) {
    // Small answers should leave at once; without it they only leave later.
    let _ = stream.set_nodelay(true);
    let stop = house.stop.clone();
    let service = hyper::service::service_fn(move |request| {
        let reply = answer(request, &house, &place);
        async move { Ok::<_, Infallible>(reply) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Whatever went wrong, there is nobody left to tell.
    let _ = stop.run_until_cancelled(serving).await;
}

fn answer(
    request: Request<Incoming>,
    house: &Arc<House>,
    place: &Arc<OwnedSemaphorePermit>,
) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => house.page.reply(),
        (&Method::GET, "/echo") => upgrade(request, house, place, |socket, _| echo(socket)),
        (&Method::GET, "/chat") => upgrade(request, house, place, chat),
        (&Method::POST, "/demo/drain") => drain(request.headers(), house),
        (_, "/" | "/echo" | "/chat" | "/demo/drain") => status(StatusCode::METHOD_NOT_ALLOWED),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Asks for a drain, if the request comes from our own page.
fn drain(headers: &HeaderMap, house: &House) -> Reply {
    if !is_own_page(headers) {
        return status(StatusCode::FORBIDDEN);
    }
    match house.drain.try_send(()) {
        Ok(()) => status(StatusCode::ACCEPTED),
        Err(_) => status(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Whether the page that sends this was served here: its Origin is our authority, and that is a
/// loopback one. The latter keeps out a foreign name that was made to resolve to this machine.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (Some(host), Some(origin)) = (text(header::HOST), text(header::ORIGIN)) else {
        return false;
    };
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    // The port is what follows the last colon; an IPv6 address keeps its brackets.
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    authority.eq_ignore_ascii_case(host) && LOOPBACK_NAMES.contains(&name)
}

/// Answers an opening handshake (RFC 6455 4.2.2) and lets `talk` have the socket.
fn upgrade<T, F>(
    mut request: Request<Incoming>,
    house: &Arc<House>,
    place: &Arc<OwnedSemaphorePermit>,
    talk: T,
) -> Reply
where
    T: FnOnce(Socket, Arc<House>) -> F + Send + 'static,
    F: Future<Output = Result<(), tungstenite::Error>> + Send,
{
    let Some(accept) = accept_key(request.headers()) else {
        return status(StatusCode::UPGRADE_REQUIRED);
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let inside = Arc::clone(house);
    let place = Arc::clone(place);
    let talking = async move {
        let Ok(upgraded) = upgrading.await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
        // A peer that breaks off is no news to a demo.
        let _ = talk(socket, inside).await;
        drop(place);
    };
    let stop = house.stop.clone();
    house.tasks.spawn(async move { stop.run_until_cancelled(talking).await });

    let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

/// The answer to the client's key; `None`: this is no opening handshake.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?.to_str().ok()?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    if !protocol.eq_ignore_ascii_case("websocket") {
        return None;
    }
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()
}

/// Every message goes back as it came.
async fn echo(mut socket: Socket) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_text() || message.is_binary() {
            send(&mut socket, message).await?;
        }
    }
    Ok(())
}

/// Every text goes to all who are in the hall.
async fn chat(mut socket: Socket, house: Arc<House>) -> Result<(), tungstenite::Error> {
    let Some(seat) = house.hall.enter() else {
        return close(&mut socket, CloseCode::Again, "the chat is full").await;
    };
    converse(&mut socket, seat).await
}

async fn converse(socket: &mut Socket, mut seat: Seat) -> Result<(), tungstenite::Error> {
    let rest = sleep(Duration::ZERO);
    tokio::pin!(rest);
    loop {
        tokio::select! {
            heard = seat.hear() => match heard {
                Some(text) => send(socket, Message::Text(text)).await?,
                None => return close(socket, CloseCode::Again, "you read too slowly").await,
            },
            // Between two texts of one member there is a pause, so that nobody can drown the rest.
            message = socket.next(), if rest.is_elapsed() => match message.transpose()? {
                Some(Message::Text(text)) if text.len() > TEXT_MAX => {
                    return close(socket, CloseCode::Size, "a chat text has 2 KiB at most").await;
                }
                Some(Message::Text(text)) => {
                    seat.say(&text);
                    rest.as_mut().reset(tokio::time::Instant::now() + PAUSE);
                }
                Some(_) => {}
                None => return Ok(()),
            },
            () = &mut rest, if !rest.is_elapsed() => {}
        }
    }
}

/// Sends within [`SEND_MAX`]; a peer that takes nothing for so long is given up.
async fn send(socket: &mut Socket, message: Message) -> Result<(), tungstenite::Error> {
    match timeout(SEND_MAX, socket.send(message)).await {
        Ok(sent) => sent,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// Says why, and waits a little for the peer's own Close (RFC 6455 7.1.2).
async fn close(
    socket: &mut Socket,
    code: CloseCode,
    reason: &'static str,
) -> Result<(), tungstenite::Error> {
    let reason = Utf8Bytes::from_static(reason);
    send(socket, Message::Close(Some(CloseFrame { code, reason }))).await?;
    let answered = async {
        while socket.next().await.transpose()?.is_some() {}
        Ok(())
    };
    timeout(CLOSE_MAX, answered).await.unwrap_or(Ok(()))
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .max_write_buffer_size(2 * MESSAGE_MAX)
}

fn status(status: StatusCode) -> Reply {
    let mut reply = Response::default();
    *reply.status_mut() = status;
    reply
}

/// Connections at one time; the proxy's own caps bite long before.
const CONNECTIONS_MAX: usize = 512;

/// Largest message: more than the proxy lets through, so that it is seen to decide.
const MESSAGE_MAX: usize = 4 << 20;

/// Largest chat text in bytes.
const TEXT_MAX: usize = 2 << 10;

/// Shortest time between two chat texts of one member.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for a request head, and for the next one on an open connection.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Longest time one message may take to be written.
const SEND_MAX: Duration = Duration::from_secs(10);

/// Longest wait for the answer to a Close of ours.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Rest of the accept loop after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Names under which the demo is visited; all are in its certificate.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::client_async;

    const PAGE: Page = Page { message_max: 1 << 20, tunnels_max: 32, drain_window_ms: 3000 };

    /// A running backend, where it listens, and the presses of the drain button.
    async fn start() -> (Backend, SocketAddr, mpsc::Receiver<()>) {
        let (drain, pressed) = mpsc::channel(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (Backend::start(listener, PAGE, drain), address, pressed)
    }

    async fn open(at: SocketAddr, path: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(at).await.expect("listening");
        let url = format!("ws://{at}{path}");
        client_async(url, stream).await.expect("upgraded").0
    }

    async fn status_of(at: SocketAddr, request: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(at).await.expect("listening");
        let head = format!("{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer.split(' ').nth(1).expect("a status").to_owned()
    }

    #[tokio::test]
    async fn the_echo_gives_back_text_and_binary_and_the_close_code() {
        let (backend, at, _pressed) = start().await;
        let mut socket = open(at, "/echo?any=query").await;
        for message in [Message::text("tide"), Message::binary(vec![0_u8; 100_000])] {
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.next().await.expect("open").expect("whole"), message);
        }
        let code = CloseCode::Library(4001);
        socket.close(Some(CloseFrame { code, reason: "".into() })).await.expect("sent");
        let answer = socket.next().await.expect("open").expect("whole");
        assert!(matches!(answer, Message::Close(Some(frame)) if frame.code == code));
        backend.stop().await;
    }

    #[tokio::test]
    async fn two_in_the_chat_hear_each_other_and_a_long_text_ends_its_speaker() {
        let (backend, at, _pressed) = start().await;
        let (mut first, mut second) = (open(at, "/chat").await, open(at, "/chat").await);
        for text in ["one", "two"] {
            second.send(Message::text(text)).await.expect("sent");
        }
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let message = first.next().await.expect("open").expect("whole");
            let value: serde_json::Value =
                serde_json::from_str(message.to_text().expect("text")).expect("JSON");
            heard.extend(value["said"].as_str().map(str::to_owned));
        }
        assert_eq!(heard, ["one", "two"]);

        second.send(Message::text("x".repeat(TEXT_MAX + 1))).await.expect("sent");
        let code = loop {
            if let Message::Close(frame) = second.next().await.expect("open").expect("whole") {
                break frame.expect("a code").code;
            }
        };
        assert_eq!(code, CloseCode::Size);
        backend.stop().await;
    }

    #[tokio::test]
    async fn what_is_no_opening_handshake_is_told_so() {
        let (backend, at, _pressed) = start().await;
        assert_eq!(status_of(at, "GET /", "Host: localhost\r\n").await, "200");
        assert_eq!(status_of(at, "GET /echo", "Host: localhost\r\n").await, "426");
        assert_eq!(status_of(at, "GET /nothing", "Host: localhost\r\n").await, "404");
        assert_eq!(status_of(at, "PUT /", "Host: localhost\r\n").await, "405");
        backend.stop().await;
    }

    #[tokio::test]
    async fn only_the_page_itself_can_ask_for_a_drain() {
        let (backend, at, mut pressed) = start().await;
        for headers in [
            "Host: localhost:8443\r\n",
            "Host: localhost:8443\r\nOrigin: null\r\n",
            "Host: localhost:8443\r\nOrigin: https://evil.example\r\n",
            "Host: localhost:8443\r\nOrigin: https://localhost:9000\r\n",
            // A foreign name that leads to this machine agrees with itself.
            "Host: evil.example:8443\r\nOrigin: https://evil.example:8443\r\n",
        ] {
            assert_eq!(status_of(at, "POST /demo/drain", headers).await, "403", "{headers}");
        }
        assert!(pressed.try_recv().is_err());
        for host in ["localhost:8443", "127.0.0.1:8443", "[::1]:8443"] {
            let headers = format!("Host: {host}\r\nOrigin: https://{host}\r\n");
            assert_eq!(status_of(at, "POST /demo/drain", &headers).await, "202", "{host}");
            assert!(pressed.try_recv().is_ok());
        }
        backend.stop().await;
    }
}
