//! One epoll: accepts, dials the backend, and hands readiness to the pair of sockets it is for.
//! Edge-triggered, so that a socket is registered once and never again.

use std::io;
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Most bytes of one read.
pub const READ_BYTES: usize = 64 * 1024;

/// What a worker's connections have in common.
pub trait Route {
    /// One connection's state beside its sockets.
    type Flow;

    /// For a connection that has just been accepted.
    fn flow(&mut self) -> io::Result<Self::Flow>;

    /// Moves what can be moved; an error, or [`Motion::Over`], ends the connection.
    fn pump(&mut self, ends: &mut Ends, flow: &mut Self::Flow) -> io::Result<Motion>;
}

/// Whether a connection goes on.
pub enum Motion {
    Goes,
    Over,
}

/// The two sockets, and what is known of each.
pub struct Ends {
    pub client: TcpStream,
    pub backend: TcpStream,
    pub client_unread: Unread,
    pub backend_unread: Unread,
}

/// What a socket may have that was not read.
#[derive(Default)]
pub struct Unread {
    /// Bytes, or the end.
    pub some: bool,
    /// The end has come, behind what bytes there are.
    pub last: bool,
}

/// A listening socket and all that came through it.
pub struct Relay<R: Route> {
    poll: Poll,
    listener: TcpListener,
    backend: SocketAddr,
    route: R,
    pairs: Vec<Option<(Ends, R::Flow)>>,
    vacant: Vec<usize>,
}

impl<R: Route> Relay<R> {
    pub fn new(listener: std::net::TcpListener, backend: SocketAddr, route: R) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, backend, route, pairs: Vec::new(), vacant: Vec::new() })
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
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn open(&mut self, mut client: TcpStream) -> io::Result<()> {
        let mut backend = TcpStream::connect(self.backend)?;
        backend.set_nodelay(true)?;
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut client, Token(slot * 2), both)?;
        self.poll.registry().register(&mut backend, Token(slot * 2 + 1), both)?;
        let (client_unread, backend_unread) = <(Unread, Unread)>::default();
        let ends = Ends { client, backend, client_unread, backend_unread };
        self.pairs[slot] = Some((ends, self.route.flow()?));
        Ok(())
    }

    /// A slot may have a new owner since the event was made; then this is one read in vain.
    fn ready(&mut self, event: &Event) {
        let Token(token) = event.token();
        let slot = token / 2;
        let Some((ends, flow)) = &mut self.pairs[slot] else { return };
        let unread = match token % 2 {
            0 => &mut ends.client_unread,
            _ => &mut ends.backend_unread,
        };
        unread.some |= event.is_readable() || event.is_error();
        unread.last |= event.is_read_closed();
        if !matches!(self.route.pump(ends, flow), Ok(Motion::Goes)) {
            self.pairs[slot] = None;
            self.vacant.push(slot);
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
