//! What a tunnel has to tell of its session: after each wake, and at its end.

use std::time::Duration;

use ws::{
    CloseCodes, MessageSizes, ReadDelays, ReportedViolations, Rtt, Session, Side, Stats,
    TerminationReason,
};

/// What passed in one wake, and where that leaves the session.
#[derive(Debug)]
pub struct WakeProgress<'a> {
    /// All that is known of the session.
    pub session: &'a Session,
    /// Whole messages of this wake, client to backend.
    pub up: &'a MessageSizes,
    /// Whole messages of this wake, backend to client.
    pub down: &'a MessageSizes,
    /// From a read to the end of the write that it led to; only now and then.
    pub late: Option<Duration>,
}

/// How a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Why.
    pub end: TerminationReason,
    /// What the limit that decided was set to, as a person would write it.
    pub value: Option<String>,
    /// What was relayed.
    pub tally: Stats,
    /// The Closes that went out.
    pub closes: CloseCodes,
    /// How fast the client answered pings.
    pub client_rtt: Option<Rtt>,
    /// How fast the backend did.
    pub backend_rtt: Option<Rtt>,
    /// What the client would have been closed for.
    pub client_reported: ReportedViolations,
    /// What the backend would have been closed for.
    pub backend_reported: ReportedViolations,
    /// How long the client was made to wait, and by which limits.
    pub client_delayed: ReadDelays,
    /// How long the backend was.
    pub backend_delayed: ReadDelays,
}

impl TunnelEnd {
    pub(super) fn of(session: &Session) -> Self {
        // A session that is over has a name for it.
        let end = session.end().unwrap_or(TerminationReason::Aborted);
        Self {
            end,
            value: end.value(session.terms()),
            tally: *session.tally(),
            closes: session.closes(),
            client_rtt: session.rtt(Side::Client),
            backend_rtt: session.rtt(Side::Backend),
            client_reported: session.reported(Side::Client),
            backend_reported: session.reported(Side::Backend),
            client_delayed: session.delayed(Side::Client),
            backend_delayed: session.delayed(Side::Backend),
        }
    }
}

/// Whole messages that passed in one wake.
#[derive(Default)]
pub(super) struct RelayedMessages {
    pub(super) up: MessageSizes,
    pub(super) down: MessageSizes,
}

impl RelayedMessages {
    /// Whether so much work was done that it is somebody else's turn.
    pub(super) fn is_enough(&self) -> bool {
        self.up.work + self.down.work > WORK_MAX
    }

    pub(super) fn of(&mut self, from: Side) -> &mut MessageSizes {
        match from {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }
}

/// What one wake may spend on looking into compressed messages: about as many bytes copied, some
/// hundred microseconds.
const WORK_MAX: u64 = 512 * 1024;
