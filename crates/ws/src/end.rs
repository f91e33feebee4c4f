//! Why a session ended: one name each, and the slug, the culprit, the configuration key and the
//! close codes that follow from it.

use super::close::CloseCode;
use super::limits::SessionPolicy;
use super::show::{duration, rate};
use super::{LimitKind, ProtocolError, Side};

/// Why a session ended; the first cause, never overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// The client sent a Close.
    ClientClosed,
    /// The backend sent a Close.
    BackendClosed,
    /// The client's stream ended without one.
    ClientGone,
    /// The backend's stream ended without one.
    BackendGone,
    /// This side went over a limit.
    Over(Side, LimitKind),
    /// This side broke RFC 6455.
    Breach(Side, ProtocolError),
    /// No data frame in either direction for too long.
    Idle,
    /// This side did not answer a Ping.
    HeartbeatLost(Side),
    /// This side did not take what waited for it.
    WriteStall(Side),
    /// This side took too little of what waited for it.
    WriteTrickle(Side),
    /// The session became as old as it may.
    Lifetime,
    /// The proxy is leaving and asked both sides to go.
    Drained,
    /// An operator asked both sides to go.
    Killed,
    /// Its backend was removed or is down, and the route does not keep such tunnels.
    Rebalanced,
    /// The proxy cut the session.
    Aborted,
}

impl TerminationReason {
    /// The name in records and metric labels. It says nothing of the side: see [`TerminationReason::by`].
    pub fn slug(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientGone => "client_disconnected",
            Self::BackendGone => "backend_disconnected",
            Self::Over(_, rule) => rule.slug(),
            Self::Breach(_, breach) => breach.slug(),
            Self::Idle => "idle",
            Self::HeartbeatLost(_) => "heartbeat_timeout",
            Self::WriteStall(_) => "write_timeout",
            Self::WriteTrickle(_) => "write_too_slow",
            Self::Lifetime => "lifetime",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::Rebalanced => "backend_lost",
            Self::Aborted => "aborted",
        }
    }

    /// Whose deed or fault it was: `client`, `backend`, or `tidegate` for its own clocks and orders.
    pub fn by(self) -> &'static str {
        match self {
            Self::ClientClosed | Self::ClientGone => Side::Client.slug(),
            Self::BackendClosed | Self::BackendGone => Side::Backend.slug(),
            Self::Over(side, _)
            | Self::Breach(side, _)
            | Self::HeartbeatLost(side)
            | Self::WriteStall(side)
            | Self::WriteTrickle(side) => side.slug(),
            Self::Idle
            | Self::Lifetime
            | Self::Drained
            | Self::Killed
            | Self::Rebalanced
            | Self::Aborted => "tidegate",
        }
    }

    /// The configuration key that decided, if one did.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Over(side, rule) => Some(rule.key(side)),
            Self::Idle => Some("limits.idle"),
            Self::HeartbeatLost(Side::Client) => Some("heartbeat.timeout"),
            Self::HeartbeatLost(Side::Backend) => Some("heartbeat.backend_timeout"),
            Self::WriteStall(_) => Some("limits.write_timeout"),
            Self::WriteTrickle(_) => Some("limits.min_write_rate"),
            Self::Lifetime => Some("limits.lifetime"),
            Self::Rebalanced => Some("route.on_backend_loss"),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientGone
            | Self::BackendGone
            | Self::Breach(..)
            | Self::Drained
            | Self::Killed
            | Self::Aborted => None,
        }
    }

    /// That key's value, as an operator would write it: `1h`, `10s`, `1MiB`.
    pub fn value(self, terms: &SessionPolicy) -> Option<String> {
        match self {
            Self::Over(side, rule) => rule.value(terms.limits(side)),
            Self::Idle => terms.idle.map(duration),
            Self::HeartbeatLost(side) => {
                terms.heartbeat(side).map(|heartbeat| duration(heartbeat.timeout))
            }
            Self::WriteStall(_) => Some(duration(terms.write_timeout)),
            Self::WriteTrickle(_) => terms.min_write_rate.map(|least| rate(least.get())),
            Self::Lifetime => terms.lifetime.map(duration),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientGone
            | Self::BackendGone
            | Self::Breach(..)
            | Self::Drained
            | Self::Killed
            | Self::Rebalanced
            | Self::Aborted => None,
        }
    }

    /// The code of the Close that this end owes to a side; `None`: nothing of our own goes there.
    pub fn code_to(self, to: Side, terms: &SessionPolicy) -> Option<CloseCode> {
        match (self, to) {
            (Self::Over(at_fault, rule), to) if at_fault == to => Some(rule.close_code()),
            (Self::Breach(at_fault, breach), to) if at_fault == to => Some(breach.close_code()),
            (Self::WriteStall(Side::Client) | Self::WriteTrickle(Side::Client), Side::Client) => {
                Some(CloseCode::TRY_AGAIN_LATER)
            }
            (Self::Drained | Self::Killed | Self::Rebalanced, Side::Client) => {
                Some(terms.drain_code)
            }
            (Self::Lifetime, Side::Client) => Some(CloseCode::SERVICE_RESTART),
            (Self::Idle | Self::HeartbeatLost(Side::Client), Side::Client) => {
                Some(CloseCode::GOING_AWAY)
            }
            (
                Self::BackendGone
                | Self::HeartbeatLost(Side::Backend)
                | Self::Over(..)
                | Self::Breach(..)
                | Self::WriteStall(_)
                | Self::WriteTrickle(_),
                Side::Client,
            ) => Some(CloseCode::INTERNAL_ERROR),
            (
                Self::ClientGone
                | Self::Over(..)
                | Self::Breach(..)
                | Self::WriteStall(_)
                | Self::WriteTrickle(_)
                | Self::Idle
                | Self::HeartbeatLost(_)
                | Self::Lifetime
                | Self::Drained
                | Self::Killed
                | Self::Rebalanced,
                Side::Backend,
            ) => Some(CloseCode::GOING_AWAY),
            (Self::ClientGone, Side::Client)
            | (Self::BackendGone, Side::Backend)
            | (Self::ClientClosed | Self::BackendClosed | Self::Aborted, _) => None,
        }
    }

    /// The words beside the code; nothing from peers.
    pub(super) fn reason_to(self, to: Side, terms: &SessionPolicy) -> &str {
        match self {
            Self::Over(at_fault, _) | Self::Breach(at_fault, _) if at_fault != to => {
                "the other side failed"
            }
            Self::Over(_, rule) => rule.words(),
            Self::Breach(_, breach) => breach.words(),
            Self::ClientGone | Self::BackendGone => "the other side is gone",
            Self::Idle => "idle",
            Self::HeartbeatLost(lost) if lost != to => "the other side is gone",
            Self::HeartbeatLost(_) => "no answer to a ping",
            Self::WriteStall(at_fault) | Self::WriteTrickle(at_fault) if at_fault != to => {
                "the other side does not read"
            }
            Self::WriteStall(_) | Self::WriteTrickle(_) => "too slow to read",
            Self::Lifetime => "the session is old; connect again",
            Self::Drained | Self::Killed | Self::Rebalanced if to == Side::Client => {
                &terms.drain_reason
            }
            Self::Drained | Self::Killed | Self::Rebalanced => "",
            Self::ClientClosed | Self::BackendClosed | Self::Aborted => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Limit;
    use crate::sample::terms;

    #[test]
    fn every_end_has_its_codes() {
        use Side::{Backend, Client};
        for (end, to_client, to_backend) in [
            (TerminationReason::ClientClosed, None, None),
            (TerminationReason::BackendClosed, None, None),
            (TerminationReason::ClientGone, None, Some(1001)),
            (TerminationReason::BackendGone, Some(1011), None),
            (TerminationReason::Over(Client, LimitKind::Message), Some(1009), Some(1001)),
            (TerminationReason::Over(Backend, LimitKind::Message), Some(1011), Some(1009)),
            (TerminationReason::Breach(Client, ProtocolError::Rsv), Some(1002), Some(1001)),
            (TerminationReason::Breach(Backend, ProtocolError::Rsv), Some(1011), Some(1002)),
            (TerminationReason::Idle, Some(1001), Some(1001)),
            (TerminationReason::Over(Client, LimitKind::Controls), Some(1008), Some(1001)),
            (TerminationReason::HeartbeatLost(Client), Some(1001), Some(1001)),
            (TerminationReason::HeartbeatLost(Backend), Some(1011), Some(1001)),
            (TerminationReason::Lifetime, Some(1012), Some(1001)),
            (TerminationReason::WriteStall(Client), Some(1013), Some(1001)),
            (TerminationReason::WriteStall(Backend), Some(1011), Some(1001)),
            (TerminationReason::WriteTrickle(Client), Some(1013), Some(1001)),
            (TerminationReason::WriteTrickle(Backend), Some(1011), Some(1001)),
            (TerminationReason::Drained, Some(1012), Some(1001)),
            (TerminationReason::Killed, Some(1012), Some(1001)),
            (TerminationReason::Rebalanced, Some(1012), Some(1001)),
            (TerminationReason::Aborted, None, None),
        ] {
            let code = |to| end.code_to(to, &terms()).map(CloseCode::get);
            let codes = (code(Client), code(Backend));
            assert_eq!(codes, (to_client, to_backend), "{end:?}");
            for side in Side::BOTH {
                assert!(end.reason_to(side, &terms()).len() <= 123);
            }
        }
    }

    #[test]
    fn slug_and_culprit_tell_every_cause_apart() {
        use Side::{Backend, Client};
        let mut told = std::collections::HashSet::new();
        for end in [
            TerminationReason::ClientClosed,
            TerminationReason::BackendClosed,
            TerminationReason::ClientGone,
            TerminationReason::BackendGone,
            TerminationReason::Over(Client, LimitKind::Message),
            TerminationReason::Over(Backend, LimitKind::Message),
            TerminationReason::Over(Client, LimitKind::Inflated),
            TerminationReason::Over(Client, LimitKind::Frame),
            TerminationReason::Breach(Client, ProtocolError::Opcode),
            TerminationReason::Breach(Backend, ProtocolError::Opcode),
            TerminationReason::Breach(Client, ProtocolError::Unmasked),
            TerminationReason::Breach(Backend, ProtocolError::Masked),
            TerminationReason::Idle,
            TerminationReason::HeartbeatLost(Client),
            TerminationReason::HeartbeatLost(Backend),
            TerminationReason::Lifetime,
            TerminationReason::WriteStall(Client),
            TerminationReason::WriteStall(Backend),
            TerminationReason::WriteTrickle(Client),
            TerminationReason::WriteTrickle(Backend),
            TerminationReason::Drained,
            TerminationReason::Killed,
            TerminationReason::Rebalanced,
            TerminationReason::Aborted,
        ] {
            assert!(told.insert((end.by(), end.slug())), "{end:?}");
        }
        assert_eq!(TerminationReason::Over(Backend, LimitKind::Message).by(), "backend");
        assert_eq!(TerminationReason::Breach(Client, ProtocolError::Opcode).slug(), "ws_opcode");
    }

    #[test]
    fn an_end_by_a_limit_names_the_key_and_its_value() {
        let mut terms = terms();
        for (end, key, value) in [
            (TerminationReason::Idle, "limits.idle", "1h"),
            (TerminationReason::HeartbeatLost(Side::Client), "heartbeat.timeout", "10s"),
            (TerminationReason::WriteStall(Side::Client), "limits.write_timeout", "30s"),
            (
                TerminationReason::Over(Side::Client, LimitKind::Message),
                "limits.message_from_client",
                "1MiB",
            ),
        ] {
            assert_eq!(end.key(), Some(key));
            assert_eq!(end.value(&terms).as_deref(), Some(value));
        }
        assert_eq!(
            (TerminationReason::Drained.key(), TerminationReason::Drained.value(&terms)),
            (None, None)
        );
        terms.idle = Some(Duration::from_millis(90_500));
        assert_eq!(TerminationReason::Idle.value(&terms).as_deref(), Some("90500ms"));
        terms.idle = Some(Duration::from_secs(90));
        assert_eq!(TerminationReason::Idle.value(&terms).as_deref(), Some("90s"));
        terms.from_client.message = Some(Limit::close(1500));
        let value = TerminationReason::Over(Side::Client, LimitKind::Message).value(&terms);
        assert_eq!(value.as_deref(), Some("1500B"));
    }
}
