//! A running tunnel and the far ends of its two streams.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use ws::{DeflateMode, Entropy, HeartbeatPolicy, Session, SessionPolicy, TerminationReason};

use super::wire::{self, Frame};
use crate::net::Stream;
use crate::net::plain::PlainStream;
use crate::net::scripted::{Script, script};
use crate::net::testing::{shake, shake_lean};
use crate::tunnel::progress::{TunnelEnd, WakeProgress};
use crate::tunnel::{Command, EarlyBytes, SessionClose, SessionControl, Tunnel};

/// What the tunnel runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Scripts on both sides.
    Script,
    /// Plain streams on both sides.
    Plain,
    /// TLS by tokio-rustls to the client, plain to the backend.
    Tls,
    /// TLS by our own stream to the client, plain to the backend.
    Lean,
}

/// What a test may choose.
pub(super) struct Setup {
    pub(super) terms: SessionPolicy,
    pub(super) early: EarlyBytes,
    /// How many bytes each pipe holds.
    pub(super) room: usize,
}

impl Default for Setup {
    /// No heartbeat and no idle limit; room enough not to matter.
    fn default() -> Self {
        let terms =
            SessionPolicy { heartbeat_client: None, idle: None, ..SessionPolicy::default() };
        Self { terms, early: EarlyBytes::default(), room: 1 << 20 }
    }
}

pub(super) const HEARTBEAT: HeartbeatPolicy =
    HeartbeatPolicy { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) };

/// A tunnel that runs as a task.
pub(super) struct Rig {
    pub(super) client: Far,
    pub(super) backend: Far,
    pub(super) orders: mpsc::Sender<Command>,
    tunnel: JoinHandle<TunnelEnd>,
    begun: Instant,
}

impl Rig {
    pub(super) async fn new(over: Over, setup: Setup) -> Self {
        let room = setup.room;
        let (orders, control) = mpsc::channel(2);
        let orders_in = Orders(control);
        let (client, backend, tunnel) = match over {
            Over::Script => {
                let ((near_client, client), (near_backend, backend)) = (script(), script());
                client.allow(room);
                backend.allow(room);
                let tunnel = spawn(near_client, near_backend, setup, orders_in);
                (Far::Script(client, 0), Far::Script(backend, 0), tunnel)
            }
            Over::Plain => {
                let ((near_client, client), (near_backend, backend)) = (duplex(room), duplex(room));
                let (front, back) = (PlainStream::new(near_client), PlainStream::new(near_backend));
                let tunnel = spawn(front, back, setup, orders_in);
                (Far::Plain(client), Far::Plain(backend), tunnel)
            }
            Over::Tls => {
                let ((near_client, client), (near_backend, backend)) = (duplex(room), duplex(room));
                let (near_client, client) = shake(near_client, client).await;
                let back = PlainStream::new(near_backend);
                let tunnel = spawn(near_client, back, setup, orders_in);
                (Far::Tls(Box::new(client)), Far::Plain(backend), tunnel)
            }
            Over::Lean => {
                let ((near_client, client), (near_backend, backend)) = (duplex(room), duplex(room));
                let (near_client, client) = shake_lean(near_client, client).await;
                let back = PlainStream::new(near_backend);
                let tunnel = spawn(near_client, back, setup, orders_in);
                (Far::Tls(Box::new(client)), Far::Plain(backend), tunnel)
            }
        };
        Self { client, backend, orders, tunnel, begun: Instant::now() }
    }

    /// Waits for the end.
    pub(super) async fn ending(self) -> TunnelEnd {
        soon(self.tunnel).await.unwrap()
    }

    /// Waits for the end, which must come within this second of the rig's age.
    pub(super) async fn ending_by(mut self, age: u64) -> TunnelEnd {
        let ending = soon(&mut self.tunnel).await.unwrap();
        assert_eq!(self.age(), age);
        ending
    }

    pub(super) fn is_over(&self) -> bool {
        self.tunnel.is_finished()
    }

    /// Since the start, in whole seconds.
    pub(super) fn age(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }
}

/// Waits a day at most. Time is paused, so that is no time where nothing moves any more.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(24 * 3600), future).await.expect("nothing moves")
}

/// A session under these terms that begins now.
pub(super) fn session(terms: SessionPolicy) -> Session {
    Session::new(Arc::new(terms), DeflateMode::Off, &mut Counter(0))
}

#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with it")]
fn spawn<F, B>(client: F, backend: B, setup: Setup, orders: Orders) -> JoinHandle<TunnelEnd>
where
    F: Stream + Send + 'static,
    B: Stream + Send + 'static,
{
    let session = session(setup.terms);
    tokio::spawn(Tunnel::new(client, backend, session, setup.early, orders, Counter(0)))
}

/// The far end of a stream.
pub(super) enum Far {
    /// With the number of sent bytes already looked at.
    Script(Script, usize),
    Plain(DuplexStream),
    Tls(Box<TlsStream<DuplexStream>>),
}

/// How a stream ended, as far as its far end can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Properly.
    Clean,
    /// Without a word.
    Cut,
    /// It can not.
    Unknown,
}

impl Far {
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        match self {
            Self::Script(script, _) => script.say(bytes),
            Self::Plain(pipe) => pipe.write_all(bytes).await.unwrap(),
            Self::Tls(tls) => {
                tls.write_all(bytes).await.unwrap();
                tls.flush().await.unwrap();
            }
        }
    }

    /// As much as goes within a second; how much that was. A script takes all of it.
    pub(super) async fn say_some(&mut self, bytes: &[u8]) -> usize {
        let second = Duration::from_secs(1);
        let mut said = 0;
        while let Some(rest) = bytes.get(said..).filter(|rest| !rest.is_empty()) {
            let wrote = match self {
                Self::Script(script, _) => {
                    script.say(bytes);
                    return bytes.len();
                }
                Self::Plain(pipe) => timeout(second, pipe.write(rest)).await,
                Self::Tls(tls) => timeout(second, tls.write(rest)).await,
            };
            match wrote {
                Ok(wrote) => said += wrote.unwrap(),
                Err(_) => break,
            }
        }
        if let Self::Tls(tls) = self {
            // tokio-rustls takes more than it writes; the rest goes with what is said next.
            let _ = timeout(second, tls.flush()).await;
        }
        said
    }

    /// A lawful end of this direction.
    pub(super) async fn say_closed(&mut self) {
        match self {
            Self::Script(script, _) => script.say_closed(),
            Self::Plain(pipe) => pipe.shutdown().await.unwrap(),
            Self::Tls(tls) => tls.shutdown().await.unwrap(),
        }
    }

    /// An end without a farewell, where there is such a thing.
    pub(super) async fn say_truncated(&mut self) {
        match self {
            Self::Script(script, _) => script.say_truncated(),
            Self::Plain(pipe) => pipe.shutdown().await.unwrap(),
            Self::Tls(tls) => tls.get_mut().0.shutdown().await.unwrap(),
        }
    }

    /// Exactly the next `len` bytes.
    pub(super) async fn hear(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        match self {
            Self::Script(script, heard) => {
                script.widen(len);
                let end = *heard + len;
                soon(script.until(|state| state.sent.len() >= end)).await;
                bytes.copy_from_slice(&script.look().sent[*heard..end]);
                *heard = end;
            }
            Self::Plain(pipe) => drop(soon(pipe.read_exact(&mut bytes)).await.unwrap()),
            Self::Tls(tls) => drop(soon(tls.read_exact(&mut bytes)).await.unwrap()),
        }
        bytes
    }

    /// The next frame.
    pub(super) async fn frame(&mut self) -> Frame {
        let mut head = self.hear(2).await;
        let more = self.hear(wire::more_of_head([head[0], head[1]])).await;
        head.extend(more);
        let payload = self.hear(wire::payload_len(&head)).await;
        wire::read(&head, &payload)
    }

    /// All that is left, and how it ended.
    pub(super) async fn rest(&mut self) -> (Vec<u8>, Farewell) {
        let mut bytes = Vec::new();
        let farewell = match self {
            Self::Script(script, heard) => {
                script.widen(usize::MAX);
                soon(script.until(|state| state.closed || state.dropped)).await;
                let state = script.look();
                bytes.extend_from_slice(&state.sent[*heard..]);
                *heard = state.sent.len();
                if state.closed { Farewell::Clean } else { Farewell::Cut }
            }
            Self::Plain(pipe) => {
                soon(pipe.read_to_end(&mut bytes)).await.unwrap();
                Farewell::Unknown
            }
            Self::Tls(tls) => match soon(tls.read_to_end(&mut bytes)).await {
                Ok(_) => Farewell::Clean,
                Err(_) => Farewell::Cut,
            },
        };
        (bytes, farewell)
    }

    /// Nothing is left, and the end was proper.
    pub(super) async fn ends_clean(&mut self) {
        let (bytes, farewell) = self.rest().await;
        assert!(bytes.is_empty(), "{bytes:?}");
        assert_ne!(farewell, Farewell::Cut);
    }

    /// Nothing is left, and there was no farewell.
    pub(super) async fn ends_cut(&mut self) {
        let (bytes, farewell) = self.rest().await;
        assert!(bytes.is_empty(), "{bytes:?}");
        assert_ne!(farewell, Farewell::Clean);
    }
}

/// A drain's order.
pub(super) fn leave() -> Command {
    Command::Leave(Arc::new(SessionClose { end: TerminationReason::Drained, words: None }))
}

/// Orders through a channel; none when it is gone.
pub(super) struct Orders(pub(super) mpsc::Receiver<Command>);

impl SessionControl for Orders {
    fn relayed(&mut self, _: &WakeProgress<'_>) {}

    fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Command> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(order)) => Poll::Ready(order),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Entropy that a test can foresee.
pub(super) struct Counter(pub(super) u8);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}
