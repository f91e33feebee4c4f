//! A tunnel that a test polls by hand.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::sync::mpsc;
use tokio::task::yield_now;
use ws::Session;

use super::test_tunnel::{ChannelControl, Counter, Setup, session};
use crate::net::scripted::{Script, ScriptedStream, script};
use crate::tunnel::{BytesAfterHead, Command, Tunnel};

/// A tunnel over two scripted streams that a test polls by hand.
pub(super) struct PolledTunnel {
    pub(super) tunnel: Pin<Box<Tunnel<ScriptedStream, ScriptedStream, ChannelControl, Counter>>>,
    pub(super) client: Script,
    pub(super) backend: Script,
    pub(super) commands: mpsc::Sender<Command>,
    wakes: Arc<WakeCounter>,
}

#[derive(Default)]
struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl PolledTunnel {
    pub(super) fn new(setup: Setup) -> Self {
        Self::with_session(session(setup.policy), setup.after_head)
    }

    pub(super) fn with_session(session: Session, after_head: BytesAfterHead) -> Self {
        let ((front, client), (back, backend)) = (script(), script());
        let (commands, control) = mpsc::channel(2);
        let tunnel =
            Tunnel::new(front, back, session, after_head, ChannelControl(control), Counter(0));
        Self { tunnel: Box::pin(tunnel), client, backend, commands, wakes: Arc::default() }
    }

    /// Polls once. Returns true if the tunnel is to be polled again at once: it has woken itself, or is woken
    /// after the runtime has looked at the sockets.
    pub(super) async fn poll(&mut self) -> bool {
        let before = self.wakes.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.wakes));
        let poll = self.tunnel.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(poll.is_pending(), "{poll:?}");
        // It may wait for the next share of the worker.
        for _ in 0..4 {
            yield_now().await;
        }
        self.wakes.0.load(Ordering::Relaxed) > before
    }

    /// Bytes allocated for undecided input, up and down.
    pub(super) fn allocated(&mut self) -> [usize; 2] {
        let relay = self.tunnel.as_mut().project().relay;
        [relay.up.allocated(), relay.down.allocated()]
    }
}
