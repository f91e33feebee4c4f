//! The backend of the proxy under test: a WebSocket and HTTP server without TLS and with minimal
//! overhead, because it shares its core with the load generator.

mod endpoint;
mod handshake;
mod http;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::buffer::WriteBuffer;
use crate::error::Error;
use crate::http::field;
use crate::message::MessagePool;
use writer::Writer;

const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 256 << 10;
/// A relay connects when it accepts a client, whose handshake takes long if thousands connect at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// State shared by all connections.
pub struct State {
    /// Only one connection reads at a time, so they share one buffer.
    reading: RefCell<Vec<u8>>,
    writing: RefCell<WriteBuffer>,
    pools: RefCell<HashMap<usize, Rc<MessagePool>>>,
    /// The connections to `/broadcast`.
    subscribers: RefCell<BTreeMap<u64, Rc<Writer>>>,
    next: Cell<u64>,
}

impl State {
    fn new() -> Self {
        Self {
            reading: RefCell::new(vec![0; READ_BYTES]),
            writing: RefCell::default(),
            pools: RefCell::default(),
            subscribers: RefCell::default(),
            next: Cell::new(0),
        }
    }

    fn pool(&self, size: usize) -> Result<Rc<MessagePool>, Error> {
        if let Some(pool) = self.pools.borrow().get(&size) {
            return Ok(pool.clone());
        }
        let pool = Rc::new(MessagePool::unmasked(size)?);
        self.pools.borrow_mut().insert(size, pool.clone());
        Ok(pool)
    }
}

pub async fn run(address: SocketAddr) -> Result<(), Error> {
    let listener = listen(address)?;
    writeln!(std::io::stdout().lock(), "listening {}", listener.local_addr()?)?;
    accept(&listener).await
}

/// Serves all connections.
pub async fn accept(listener: &TcpListener) -> Result<(), Error> {
    let state = Rc::new(State::new());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                tokio::task::spawn_local(async move {
                    // The peer notices an error when the connection ends.
                    let _ = serve(stream, state).await;
                });
            }
            // No file descriptors left: wait until some are closed.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, state: Rc<State>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let (head, mut received) = timeout(REQUEST_TIMEOUT, handshake::read_head(&mut stream))
        .await
        .map_err(|_| Error::new("no request received"))??;
    let is_websocket = field(&head, "sec-websocket-key").is_some();
    if !is_websocket && handshake::parameter(&head, "message").is_some() {
        return http::serve(stream, &state, &received).await;
    }
    let endpoint = handshake::accept(&mut stream, &head, &state).await?;
    let rest = received.split_off(head.len());
    let (reading, writing) = stream.into_split();
    let writer = Rc::new(Writer::new(writing));
    let here = state.next.replace(state.next.get() + 1);
    if endpoint.is_subscriber() {
        state.subscribers.borrow_mut().insert(here, writer.clone());
    }
    let done = endpoint::run(reading, &writer, endpoint, &state, rest).await;
    state.subscribers.borrow_mut().remove(&here);
    done
}

/// A socket that listens on `address`.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}
