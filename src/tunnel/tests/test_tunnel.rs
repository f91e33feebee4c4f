//! A running tunnel and the remote ends of its two streams.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use ws::{
    DeflateMode, Entropy, HeartbeatPolicy, PingProof, Session, SessionClose, SessionPolicy,
    Summary, TerminationReason,
};

use super::frames::{self, Frame};
use crate::net::Stream;
use crate::net::http2::testing::{FarStream, connected};
use crate::net::plain::PlainStream;
use crate::net::scripted::{Script, script};
use crate::net::testing::{connected_tokio, connected_unbuffered};
use crate::tunnel::progress::WakeProgress;
use crate::tunnel::{BytesAfterHead, Command, SessionControl, Tunnel};

/// The streams of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// Scripted streams on both sides.
    Scripted,
    /// Plain streams on both sides.
    Plain,
    /// tokio-rustls to the client, plain to the backend.
    TokioTls,
    /// The proxy's own TLS stream to the client, plain to the backend.
    UnbufferedTls,
    /// A stream of an HTTP/2 connection to the client, plain to the backend.
    Http2,
}

/// Parameters of a test.
pub(super) struct Setup {
    pub(super) policy: SessionPolicy,
    pub(super) after_head: BytesAfterHead,
    /// Capacity of each pipe in bytes.
    pub(super) capacity: usize,
}

impl Default for Setup {
    /// No heartbeat, no idle limit, and a large capacity.
    fn default() -> Self {
        let policy =
            SessionPolicy { heartbeat_client: None, idle: None, ..SessionPolicy::default() };
        Self { policy, after_head: BytesAfterHead::default(), capacity: 1 << 20 }
    }
}

pub(super) const HEARTBEAT: HeartbeatPolicy = HeartbeatPolicy {
    interval: Duration::from_secs(30),
    timeout: Duration::from_secs(10),
    proof: PingProof::Any,
};

/// A tunnel that runs as a task.
pub(super) struct TestTunnel {
    pub(super) client: RemotePeer,
    pub(super) backend: RemotePeer,
    pub(super) commands: mpsc::Sender<Command>,
    task: JoinHandle<Summary>,
    started: Instant,
}

impl TestTunnel {
    pub(super) async fn new(kind: StreamKind, setup: Setup) -> Self {
        let capacity = setup.capacity;
        let (commands, receiver) = mpsc::channel(2);
        let control = ChannelControl(receiver);
        let (client, backend, task) = match kind {
            StreamKind::Scripted => {
                let ((near_client, client), (near_backend, backend)) = (script(), script());
                client.set_send_allowance(capacity);
                backend.set_send_allowance(capacity);
                let task = spawn(near_client, near_backend, setup, control);
                (RemotePeer::Scripted(client, 0), RemotePeer::Scripted(backend, 0), task)
            }
            StreamKind::Plain => {
                let (near_client, client) = duplex(capacity);
                let (near_backend, backend) = duplex(capacity);
                let near_client = PlainStream::new(near_client);
                let task = spawn(near_client, PlainStream::new(near_backend), setup, control);
                (RemotePeer::Plain(client), RemotePeer::Plain(backend), task)
            }
            StreamKind::TokioTls => {
                let (near_client, client) = duplex(capacity);
                let (near_backend, backend) = duplex(capacity);
                let (near_client, client) = connected_tokio(near_client, client).await;
                let task = spawn(near_client, PlainStream::new(near_backend), setup, control);
                (RemotePeer::Tls(Box::new(client)), RemotePeer::Plain(backend), task)
            }
            StreamKind::UnbufferedTls => {
                let (near_client, client) = duplex(capacity);
                let (near_backend, backend) = duplex(capacity);
                let (near_client, client) = connected_unbuffered(near_client, client).await;
                let task = spawn(near_client, PlainStream::new(near_backend), setup, control);
                (RemotePeer::Tls(Box::new(client)), RemotePeer::Plain(backend), task)
            }
            StreamKind::Http2 => {
                let (near_backend, backend) = duplex(capacity);
                let (near_client, client) = connected(u32::try_from(capacity).unwrap()).await;
                let task = spawn(near_client, PlainStream::new(near_backend), setup, control);
                (RemotePeer::Http2(Box::new(client)), RemotePeer::Plain(backend), task)
            }
        };
        Self { client, backend, commands, task, started: Instant::now() }
    }

    /// Waits until the tunnel has finished.
    pub(super) async fn summary(self) -> Summary {
        within_timeout(self.task).await.unwrap()
    }

    /// Waits until the tunnel has finished, which must happen at this age in seconds.
    pub(super) async fn summary_at(mut self, age: u64) -> Summary {
        let summary = within_timeout(&mut self.task).await.unwrap();
        assert_eq!(self.age(), age);
        summary
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Age in whole seconds.
    pub(super) fn age(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// Waits at most a day of paused time, which passes at once if there is no progress.
pub(super) async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(24 * 3600), future).await.expect("no progress")
}

/// A session that starts now.
pub(super) fn session(policy: SessionPolicy) -> Session {
    Session::new(Arc::new(policy), DeflateMode::Off, Duration::ZERO, &mut Counter(0))
}

#[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with it")]
fn spawn<F, B>(client: F, backend: B, setup: Setup, control: ChannelControl) -> JoinHandle<Summary>
where
    F: Stream + Send + 'static,
    B: Stream + Send + 'static,
{
    let session = session(setup.policy);
    tokio::spawn(Tunnel::new(client, backend, session, setup.after_head, control, Counter(0)))
}

/// The remote end of a stream.
pub(super) enum RemotePeer {
    /// With the number of sent bytes already received.
    Scripted(Script, usize),
    Plain(DuplexStream),
    Tls(Box<TlsStream<DuplexStream>>),
    Http2(Box<FarStream>),
}

/// How a stream ended, as seen by its remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// With close_notify or its equivalent.
    Clean,
    /// Truncated or reset.
    Aborted,
    /// A plain pipe does not distinguish the two.
    Unknown,
}

impl RemotePeer {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Scripted(script, _) => script.push(bytes),
            Self::Plain(pipe) => pipe.write_all(bytes).await.unwrap(),
            Self::Http2(stream) => stream.write_all(bytes).await.unwrap(),
            Self::Tls(tls) => {
                tls.write_all(bytes).await.unwrap();
                tls.flush().await.unwrap();
            }
        }
    }

    /// Sends as many bytes as are accepted within a second, and returns their number. A script
    /// accepts all of them.
    pub(super) async fn send_some(&mut self, bytes: &[u8]) -> usize {
        let second = Duration::from_secs(1);
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let wrote = match self {
                Self::Scripted(script, _) => {
                    script.push(bytes);
                    return bytes.len();
                }
                Self::Plain(pipe) => timeout(second, pipe.write(rest)).await,
                Self::Tls(tls) => timeout(second, tls.write(rest)).await,
                Self::Http2(stream) => timeout(second, stream.write(rest)).await,
            };
            match wrote {
                Ok(wrote) => sent += wrote.unwrap(),
                Err(_) => break,
            }
        }
        if let Self::Tls(tls) = self {
            // tokio-rustls accepts more than it writes; the rest is written by the next call.
            let _ = timeout(second, tls.flush()).await;
        }
        sent
    }

    /// Ends this direction properly.
    pub(super) async fn close(&mut self) {
        match self {
            Self::Scripted(script, _) => script.push_closed(),
            Self::Plain(pipe) => pipe.shutdown().await.unwrap(),
            Self::Tls(tls) => tls.shutdown().await.unwrap(),
            Self::Http2(stream) => stream.shutdown().await.unwrap(),
        }
    }

    /// Ends this direction without close_notify, where that exists.
    pub(super) async fn truncate(&mut self) {
        match self {
            Self::Scripted(script, _) => script.push_truncated(),
            Self::Plain(pipe) => pipe.shutdown().await.unwrap(),
            Self::Tls(tls) => tls.get_mut().0.shutdown().await.unwrap(),
            // A reset would discard what was sent.
            Self::Http2(stream) => stream.shutdown().await.unwrap(),
        }
    }

    /// Receives exactly the next `len` bytes.
    pub(super) async fn recv(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        match self {
            Self::Scripted(script, received) => {
                script.extend_send_allowance(len);
                let end = *received + len;
                within_timeout(script.wait_until(|state| state.sent.len() >= end)).await;
                bytes.copy_from_slice(&script.state().sent[*received..end]);
                *received = end;
            }
            Self::Plain(pipe) => drop(within_timeout(pipe.read_exact(&mut bytes)).await.unwrap()),
            Self::Tls(tls) => drop(within_timeout(tls.read_exact(&mut bytes)).await.unwrap()),
            Self::Http2(stream) => {
                within_timeout(stream.read_exact(&mut bytes)).await.unwrap();
            }
        }
        bytes
    }

    /// Receives the next frame.
    pub(super) async fn recv_frame(&mut self) -> Frame {
        let mut header = self.recv(2).await;
        let more = self.recv(frames::remaining_header_len([header[0], header[1]])).await;
        header.extend(more);
        let payload = self.recv(frames::payload_len(&header)).await;
        frames::parse(&header, &payload)
    }

    /// Receives everything up to the end of the stream.
    pub(super) async fn recv_to_end(&mut self) -> (Vec<u8>, StreamEnd) {
        let mut bytes = Vec::new();
        let end = match self {
            Self::Scripted(script, received) => {
                script.extend_send_allowance(usize::MAX);
                within_timeout(script.wait_until(|state| state.closed || state.dropped)).await;
                let state = script.state();
                bytes.extend_from_slice(&state.sent[*received..]);
                *received = state.sent.len();
                if state.closed { StreamEnd::Clean } else { StreamEnd::Aborted }
            }
            Self::Plain(pipe) => {
                within_timeout(pipe.read_to_end(&mut bytes)).await.unwrap();
                StreamEnd::Unknown
            }
            Self::Tls(tls) => match within_timeout(tls.read_to_end(&mut bytes)).await {
                Ok(_) => StreamEnd::Clean,
                Err(_) => StreamEnd::Aborted,
            },
            Self::Http2(stream) => match within_timeout(stream.read_to_end(&mut bytes)).await {
                Ok(_) => StreamEnd::Clean,
                Err(_) => StreamEnd::Aborted,
            },
        };
        (bytes, end)
    }

    /// Checks that the stream ends properly without further bytes.
    pub(super) async fn expect_clean_end(&mut self) {
        let (bytes, end) = self.recv_to_end().await;
        assert!(bytes.is_empty(), "{bytes:?}");
        assert_ne!(end, StreamEnd::Aborted);
    }

    /// Checks that the stream is aborted without further bytes.
    pub(super) async fn expect_abort(&mut self) {
        let (bytes, end) = self.recv_to_end().await;
        assert!(bytes.is_empty(), "{bytes:?}");
        assert_ne!(end, StreamEnd::Clean);
    }
}

/// The command of a drain.
pub(super) fn drain() -> Command {
    Command::Close(Arc::new(SessionClose::new(TerminationReason::Drained)))
}

/// Receives commands from a channel; none after it is closed.
pub(super) struct ChannelControl(pub(super) mpsc::Receiver<Command>);

impl SessionControl for ChannelControl {
    fn handle_progress(&mut self, _: &WakeProgress<'_>) {}

    fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Command> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(command)) => Poll::Ready(command),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Predictable entropy.
pub(super) struct Counter(pub(super) u8);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}
