//! What few tunnels have at a time, so that the others need no memory for it.

use std::task::{Context, Poll};
use std::time::Duration;

use ws::FrameTrace;

use crate::sys::worker_share::{self, ShareTurn, ShareWork, WorkKind};

#[derive(Default)]
pub(super) struct TunnelExtras {
    /// Receives frame headers.
    pub(super) trace: Option<Box<FrameTrace>>,
    /// Only while the tunnel is busy.
    turn: Option<ShareTurn>,
}

impl TunnelExtras {
    /// Waits until the tunnel may work. One that is not busy never waits, and gets no right that is charged.
    pub(super) fn poll_turn(
        extras: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ShareWork>> {
        match extras.as_mut().and_then(|extras| extras.turn.as_mut()) {
            Some(turn) => turn.poll(WorkKind::Tunnel, cx).map(Some),
            None => Poll::Ready(None),
        }
    }

    /// Ends a wake, which took `long` if it was long: the tunnel is busy then.
    pub(super) fn finish(
        extras: &mut Option<Box<Self>>,
        work: Option<ShareWork>,
        long: Option<Duration>,
    ) {
        match (work, long) {
            (Some(work), _) => drop(work),
            (None, Some(time)) => worker_share::charge(time),
            (None, None) => {}
        }
        if long.is_some() {
            extras.get_or_insert_default().turn.get_or_insert_default();
        } else if let Some(present) = extras {
            present.turn = None;
            extras.take_if(|extras| extras.trace.is_none());
        }
    }
}
