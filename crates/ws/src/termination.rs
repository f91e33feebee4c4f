//! Why a session ended, and the name, initiator, configuration key and close codes of each reason.

use crate::close_code::CloseCode;
use crate::limit_kind::LimitKind;
use crate::policy::SessionPolicy;
use crate::protocol_error::ProtocolError;
use crate::side::Side;
use crate::units::{format_duration, format_rate};

/// Why a session ended. The first reason is final; later ones do not replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// The client sent a Close frame.
    ClientClosed,
    /// The backend sent a Close frame.
    BackendClosed,
    /// The client's stream ended without a Close frame.
    ClientDisconnected,
    /// The backend's stream ended without a Close frame.
    BackendDisconnected,
    /// This side exceeded a limit.
    LimitExceeded(Side, LimitKind),
    /// This side violated RFC 6455.
    ProtocolError(Side, ProtocolError),
    /// No data frame passed in either direction for too long.
    Idle,
    /// This side did not answer a ping.
    HeartbeatTimeout(Side),
    /// This side accepted no queued data.
    WriteTimeout(Side),
    /// This side accepted queued data too slowly.
    WriteTooSlow(Side),
    /// The session reached its maximum age.
    Lifetime,
    /// A drain closed the session.
    Drained,
    /// An operator closed the session.
    Killed,
    /// The backend was removed or is down, and the route closes such tunnels.
    BackendLost,
    /// The client belongs to another backend since the backends or their weights have changed.
    Rebalanced,
    /// The proxy aborted the session without a closing handshake: a drain or shutdown was forced or
    /// reached its deadline, or the session was dropped while it was open.
    Aborted,
}

impl TerminationReason {
    /// The name in records and metric labels. It does not include the side; see
    /// [`TerminationReason::initiator`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientDisconnected => "client_disconnected",
            Self::BackendDisconnected => "backend_disconnected",
            Self::LimitExceeded(_, limit) => limit.as_str(),
            Self::ProtocolError(_, error) => error.as_str(),
            Self::Idle => "idle",
            Self::HeartbeatTimeout(_) => "heartbeat_timeout",
            Self::WriteTimeout(_) => "write_timeout",
            Self::WriteTooSlow(_) => "write_too_slow",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::BackendLost => "backend_lost",
            Self::Rebalanced => "rebalance",
            Self::Aborted => "aborted",
        }
    }

    /// The side that closed or disconnected, or that is at fault (a violation, no pong, too slow a
    /// reader): `client` or `backend`; `tidegate` if it is neither.
    pub fn initiator(self) -> &'static str {
        match self {
            Self::ClientClosed | Self::ClientDisconnected => Side::Client.as_str(),
            Self::BackendClosed | Self::BackendDisconnected => Side::Backend.as_str(),
            Self::LimitExceeded(side, _)
            | Self::ProtocolError(side, _)
            | Self::HeartbeatTimeout(side)
            | Self::WriteTimeout(side)
            | Self::WriteTooSlow(side) => side.as_str(),
            Self::Idle
            | Self::Lifetime
            | Self::Drained
            | Self::Killed
            | Self::BackendLost
            | Self::Rebalanced
            | Self::Aborted => "tidegate",
        }
    }

    /// The side that violated the protocol or a limit on what it sends.
    pub(crate) fn violator(self) -> Option<Side> {
        match self {
            Self::LimitExceeded(side, _) | Self::ProtocolError(side, _) => Some(side),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientDisconnected
            | Self::BackendDisconnected
            | Self::Idle
            | Self::HeartbeatTimeout(_)
            | Self::WriteTimeout(_)
            | Self::WriteTooSlow(_)
            | Self::Lifetime
            | Self::Drained
            | Self::Killed
            | Self::BackendLost
            | Self::Rebalanced
            | Self::Aborted => None,
        }
    }

    /// Whether messages in progress are completed before the proxy closes: the tunnel could go on.
    pub(crate) fn completes_messages(self) -> bool {
        self == Self::Rebalanced
    }

    /// The configuration key that caused the end; `None` if no setting did.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::LimitExceeded(side, limit) => Some(limit.key(side)),
            Self::Idle => Some("limits.idle"),
            Self::HeartbeatTimeout(Side::Client) => Some("heartbeat.timeout"),
            Self::HeartbeatTimeout(Side::Backend) => Some("heartbeat.backend_timeout"),
            Self::WriteTimeout(_) => Some("limits.write_timeout"),
            Self::WriteTooSlow(_) => Some("limits.min_write_rate"),
            Self::Lifetime => Some("limits.lifetime"),
            Self::BackendLost => Some("route.on_backend_loss"),
            Self::ProtocolError(_, ProtocolError::Inflate) => Some("route.compression"),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientDisconnected
            | Self::BackendDisconnected
            | Self::ProtocolError(..)
            | Self::Drained
            | Self::Killed
            | Self::Rebalanced
            | Self::Aborted => None,
        }
    }

    /// The value of that key in the notation of the configuration file, such as `1h` or `1MiB`. `None`
    /// also for [`BackendLost`](Self::BackendLost): its key is not part of the session policy.
    pub fn value(self, policy: &SessionPolicy) -> Option<String> {
        match self {
            Self::LimitExceeded(side, limit) => limit.value(policy.limits(side)),
            Self::Idle => policy.idle.map(format_duration),
            Self::HeartbeatTimeout(side) => {
                policy.heartbeat(side).map(|heartbeat| format_duration(heartbeat.timeout))
            }
            Self::WriteTimeout(_) => Some(format_duration(policy.write_timeout)),
            Self::WriteTooSlow(_) => policy.min_write_rate.map(|min| format_rate(min.get())),
            Self::Lifetime => policy.lifetime.map(format_duration),
            // Compressed messages are decoded in no other mode.
            Self::ProtocolError(_, ProtocolError::Inflate) => Some("inspect".to_owned()),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientDisconnected
            | Self::BackendDisconnected
            | Self::ProtocolError(..)
            | Self::Drained
            | Self::Killed
            | Self::BackendLost
            | Self::Rebalanced
            | Self::Aborted => None,
        }
    }

    /// The code of the Close frame that the proxy sends to a side for this reason; `None` if it sends
    /// none.
    pub fn close_code(self, to: Side, policy: &SessionPolicy) -> Option<CloseCode> {
        match (self, to) {
            (Self::LimitExceeded(at_fault, limit), to) if at_fault == to => {
                Some(limit.close_code())
            }
            (Self::ProtocolError(at_fault, error), to) if at_fault == to => {
                Some(error.close_code())
            }
            (Self::Drained | Self::Killed | Self::BackendLost | Self::Rebalanced, Side::Client) => {
                Some(policy.drain_code)
            }
            (Self::Lifetime, Side::Client) => Some(CloseCode::SERVICE_RESTART),
            (Self::Idle | Self::HeartbeatTimeout(Side::Client), Side::Client) => {
                Some(CloseCode::GOING_AWAY)
            }
            // Clients take 1011 as fatal: a lost backend is a restart, a stalled or faulty one overload.
            (Self::BackendDisconnected, Side::Client) => Some(CloseCode::SERVICE_RESTART),
            (
                Self::HeartbeatTimeout(Side::Backend)
                | Self::LimitExceeded(..)
                | Self::ProtocolError(..)
                | Self::WriteTimeout(_)
                | Self::WriteTooSlow(_),
                Side::Client,
            ) => Some(CloseCode::TRY_AGAIN_LATER),
            (
                Self::ClientDisconnected
                | Self::LimitExceeded(..)
                | Self::ProtocolError(..)
                | Self::WriteTimeout(_)
                | Self::WriteTooSlow(_)
                | Self::Idle
                | Self::HeartbeatTimeout(_)
                | Self::Lifetime
                | Self::Drained
                | Self::Killed
                | Self::BackendLost
                | Self::Rebalanced,
                Side::Backend,
            ) => Some(CloseCode::GOING_AWAY),
            (Self::ClientDisconnected, Side::Client)
            | (Self::BackendDisconnected, Side::Backend)
            | (Self::ClientClosed | Self::BackendClosed | Self::Aborted, _) => None,
        }
    }

    /// The reason text sent with the code. It contains nothing that a peer sent.
    pub(crate) fn close_reason(self, to: Side, policy: &SessionPolicy) -> &str {
        match self {
            Self::LimitExceeded(at_fault, _) | Self::ProtocolError(at_fault, _)
                if at_fault != to =>
            {
                "the other side failed"
            }
            Self::LimitExceeded(_, limit) => limit.description(),
            Self::ProtocolError(_, error) => error.description(),
            Self::ClientDisconnected | Self::BackendDisconnected => "the other side disconnected",
            Self::Idle => "idle",
            Self::HeartbeatTimeout(unresponsive) if unresponsive != to => {
                "the other side disconnected"
            }
            Self::HeartbeatTimeout(_) => "no answer to a ping",
            Self::WriteTimeout(at_fault) | Self::WriteTooSlow(at_fault) if at_fault != to => {
                "the other side does not read"
            }
            Self::WriteTimeout(_) | Self::WriteTooSlow(_) => "too slow to read",
            Self::Lifetime => "maximum session lifetime reached; reconnect",
            Self::Drained | Self::Killed | Self::BackendLost | Self::Rebalanced
                if to == Side::Client =>
            {
                &policy.drain_reason
            }
            Self::Drained | Self::Killed | Self::BackendLost | Self::Rebalanced => "",
            Self::ClientClosed | Self::BackendClosed | Self::Aborted => "",
        }
    }
}

#[cfg(test)]
mod tests;
