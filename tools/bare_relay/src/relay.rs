//! The event loop: accepts, connects to the backend, and reports readiness to the transport.
//! Edge-triggered, so that every socket is registered only once.

use std::io;
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Size of one read in bytes.
pub const READ_BYTES: usize = 64 * 1024;

/// How bytes are relayed; one instance per worker.
pub trait Transport {
    /// The state of a connection besides its sockets.
    type Connection;

    /// Creates the state of an accepted connection.
    fn connection(&mut self) -> io::Result<Self::Connection>;

    /// Relays all available bytes. An error or [`Status::Closed`] ends the connection.
    fn pump(
        &mut self,
        sockets: &mut Sockets,
        connection: &mut Self::Connection,
    ) -> io::Result<Status>;
}

/// Whether a connection remains open.
pub enum Status {
    Open,
    Closed,
}

/// The two sockets of a connection and their read state.
pub struct Sockets {
    pub client: TcpStream,
    pub backend: TcpStream,
    pub client_ready: ReadState,
    pub backend_ready: ReadState,
}

/// What epoll reported about a socket and was not read yet.
#[derive(Default)]
pub struct ReadState {
    /// Data or EOF.
    pub readable: bool,
    /// EOF, after any remaining data.
    pub eof: bool,
}

/// A listening socket and its connections.
pub struct Relay<R: Transport> {
    poll: Poll,
    listener: TcpListener,
    backend: SocketAddr,
    transport: R,
    connections: Vec<Option<(Sockets, R::Connection)>>,
    free: Vec<usize>,
}

impl<R: Transport> Relay<R> {
    pub fn new(
        listener: std::net::TcpListener,
        backend: SocketAddr,
        transport: R,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, backend, transport, connections: Vec::new(), free: Vec::new() })
    }

    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else {
                    self.ready(event);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((client, _)) => self.open(client)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client disconnected before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn open(&mut self, mut client: TcpStream) -> io::Result<()> {
        let mut backend = TcpStream::connect(self.backend)?;
        backend.set_nodelay(true)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut client, Token(slot * 2), both)?;
        self.poll.registry().register(&mut backend, Token(slot * 2 + 1), both)?;
        let (client_ready, backend_ready) = <(ReadState, ReadState)>::default();
        let sockets = Sockets { client, backend, client_ready, backend_ready };
        self.connections[slot] = Some((sockets, self.transport.connection()?));
        Ok(())
    }

    /// Handles an event. If its slot was reused meanwhile, the only effect is one needless read.
    fn ready(&mut self, event: &Event) {
        let Token(token) = event.token();
        let slot = token / 2;
        let Some((sockets, connection)) = &mut self.connections[slot] else { return };
        let state = match token % 2 {
            0 => &mut sockets.client_ready,
            _ => &mut sockets.backend_ready,
        };
        state.readable |= event.is_readable() || event.is_error();
        state.eof |= event.is_read_closed();
        if !matches!(self.transport.pump(sockets, connection), Ok(Status::Open)) {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
