//! Why a session ended: one name each, and the slug, the culprit, the configuration key and the
//! close codes that follow from it.

use std::fmt;
use std::time::Duration;

use super::Side;
use super::close::CloseCode;
use super::limits::Terms;

/// Why a session ended; the first cause, never overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The client sent a Close.
    ClientClosed,
    /// The backend sent a Close.
    BackendClosed,
    /// The client's stream ended without one.
    ClientGone,
    /// The backend's stream ended without one.
    BackendGone,
    /// A message of this side is larger than its limit.
    MessageTooBig(Side),
    /// This side broke RFC 6455.
    Breach(Side, Breach),
    /// No data frame in either direction for too long.
    Idle,
    /// The client did not answer a Ping.
    HeartbeatLost,
    /// This side did not take what waited for it.
    WriteStall(Side),
    /// The proxy is leaving and asked both sides to go.
    Drained,
    /// The proxy cut the session.
    Aborted,
}

impl End {
    /// The name in records and metric labels. It says nothing of the side: see [`End::by`].
    pub fn slug(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientGone => "client_gone",
            Self::BackendGone => "backend_gone",
            Self::MessageTooBig(_) => "message_too_big",
            Self::Breach(_, breach) => breach.slug(),
            Self::Idle => "idle",
            Self::HeartbeatLost => "heartbeat_lost",
            Self::WriteStall(_) => "write_stall",
            Self::Drained => "drained",
            Self::Aborted => "aborted",
        }
    }

    /// Whose deed or fault it was: `client`, `backend`, or `tidegate` for its own clocks and orders.
    pub fn by(self) -> &'static str {
        match self {
            Self::ClientClosed | Self::ClientGone => "client",
            Self::BackendClosed | Self::BackendGone => "backend",
            Self::MessageTooBig(side) | Self::Breach(side, _) | Self::WriteStall(side) => {
                match side {
                    Side::Client => "client",
                    Side::Backend => "backend",
                }
            }
            Self::Idle | Self::HeartbeatLost | Self::Drained | Self::Aborted => "tidegate",
        }
    }

    /// The configuration key that decided, if one did.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::MessageTooBig(Side::Client) => Some("limits.message_from_client"),
            Self::MessageTooBig(Side::Backend) => Some("limits.message_from_backend"),
            Self::Idle => Some("limits.idle"),
            Self::HeartbeatLost => Some("heartbeat.patience"),
            Self::WriteStall(_) => Some("limits.write_stall"),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientGone
            | Self::BackendGone
            | Self::Breach(..)
            | Self::Drained
            | Self::Aborted => None,
        }
    }

    /// That key's value, as an operator would write it: `1h`, `10s`, `1MiB`.
    pub fn value(self, terms: &Terms) -> Option<String> {
        match self {
            Self::MessageTooBig(Side::Client) => terms.message_from_client_max.map(size),
            Self::MessageTooBig(Side::Backend) => terms.message_from_backend_max.map(size),
            Self::Idle => terms.idle.map(duration),
            Self::HeartbeatLost => terms.heartbeat.map(|heartbeat| duration(heartbeat.patience)),
            Self::WriteStall(_) => Some(duration(terms.write_stall)),
            Self::ClientClosed
            | Self::BackendClosed
            | Self::ClientGone
            | Self::BackendGone
            | Self::Breach(..)
            | Self::Drained
            | Self::Aborted => None,
        }
    }

    /// The code of the Close that this end owes to a side; `None`: nothing of our own goes there.
    pub fn code_to(self, to: Side, terms: &Terms) -> Option<CloseCode> {
        match (self, to) {
            (Self::MessageTooBig(at_fault), to) if at_fault == to => Some(CloseCode::TOO_BIG),
            (Self::Breach(at_fault, breach), to) if at_fault == to => Some(breach.close_code()),
            (Self::WriteStall(Side::Client), Side::Client) => Some(CloseCode::TRY_AGAIN_LATER),
            (Self::Drained, Side::Client) => Some(terms.drain_code),
            (Self::Idle | Self::HeartbeatLost, Side::Client) => Some(CloseCode::GOING_AWAY),
            (
                Self::BackendGone | Self::MessageTooBig(_) | Self::Breach(..) | Self::WriteStall(_),
                Side::Client,
            ) => Some(CloseCode::INTERNAL_ERROR),
            (
                Self::ClientGone
                | Self::MessageTooBig(_)
                | Self::Breach(..)
                | Self::WriteStall(_)
                | Self::Idle
                | Self::HeartbeatLost
                | Self::Drained,
                Side::Backend,
            ) => Some(CloseCode::GOING_AWAY),
            (Self::ClientGone, Side::Client)
            | (Self::BackendGone, Side::Backend)
            | (Self::ClientClosed | Self::BackendClosed | Self::Aborted, _) => None,
        }
    }

    /// The words beside the code; fixed, nothing from configuration or peers.
    pub(super) fn reason_to(self, to: Side) -> &'static str {
        match self {
            Self::MessageTooBig(at_fault) | Self::Breach(at_fault, _) if at_fault != to => {
                "the other side failed"
            }
            Self::MessageTooBig(_) => "message too big",
            Self::Breach(_, breach) => breach.words(),
            Self::ClientGone | Self::BackendGone => "the other side is gone",
            Self::Idle => "idle",
            Self::HeartbeatLost => "no answer to a ping",
            Self::WriteStall(at_fault) if at_fault != to => "the other side does not read",
            Self::WriteStall(_) => "too slow to read",
            Self::Drained => "the service restarts",
            Self::ClientClosed | Self::BackendClosed | Self::Aborted => "",
        }
    }
}

/// A broken rule of RFC 6455 or RFC 7692.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// A frame of a client without a mask (5.1).
    Unmasked,
    /// A frame of a server with one (5.1).
    Masked,
    /// A reserved bit that was not negotiated, or not on the first frame of a message (5.2).
    Rsv,
    /// A reserved opcode (5.2).
    Opcode,
    /// A length not in its shortest form, or of more than 63 bits (5.2).
    Length,
    /// A control frame in fragments (5.5).
    ControlFragmented,
    /// A control frame of more than 125 bytes (5.5).
    ControlTooLong,
    /// A continuation of nothing (5.4).
    ContinuationStray,
    /// A new message inside a fragmented one (5.4).
    MessageInterleaved,
    /// A Close of one byte (5.5.1).
    CloseLength,
    /// A close code that may not be sent (7.4).
    CloseCode,
    /// A close reason that is not UTF-8 (5.5.1).
    CloseReason,
}

impl Breach {
    /// The name in records and metric labels.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Unmasked => "ws_unmasked",
            Self::Masked => "ws_masked",
            Self::Rsv => "ws_rsv",
            Self::Opcode => "ws_opcode",
            Self::Length => "ws_length",
            Self::ControlFragmented | Self::ControlTooLong => "ws_control",
            Self::ContinuationStray | Self::MessageInterleaved => "ws_continuation",
            Self::CloseLength | Self::CloseCode | Self::CloseReason => "ws_close",
        }
    }

    /// What the side at fault is told: 1002, or 1007 for text that is not UTF-8.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::CloseReason => CloseCode::INVALID_DATA,
            Self::Unmasked
            | Self::Masked
            | Self::Rsv
            | Self::Opcode
            | Self::Length
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::ContinuationStray
            | Self::MessageInterleaved
            | Self::CloseLength
            | Self::CloseCode => CloseCode::PROTOCOL_ERROR,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Unmasked => "frame without a mask",
            Self::Masked => "masked frame from a server",
            Self::Rsv => "reserved bit set",
            Self::Opcode => "reserved opcode",
            Self::Length => "length not in its shortest form",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::ContinuationStray => "continuation without a message",
            Self::MessageInterleaved => "new message inside a fragmented one",
            Self::CloseLength => "close payload of one byte",
            Self::CloseCode => "close code that may not be sent",
            Self::CloseReason => "close reason that is not UTF-8",
        }
    }
}

/// For the operator: the rule, in words.
impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// In the largest unit that leaves nothing over.
fn duration(duration: Duration) -> String {
    match duration.as_nanos() {
        0 => "0s".to_owned(),
        nanos => in_units(
            nanos,
            &[
                (3_600_000_000_000, "h"),
                (60_000_000_000, "m"),
                (1_000_000_000, "s"),
                (1_000_000, "ms"),
                (1, "ns"),
            ],
        ),
    }
}

/// Likewise.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        bytes => in_units(
            u128::from(bytes),
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")],
        ),
    }
}

fn in_units(amount: u128, units: &[(u128, &str)]) -> String {
    let fits = units.iter().find(|(unit, _)| amount.is_multiple_of(*unit));
    let (unit, name) = fits.copied().unwrap_or((1, ""));
    format!("{}{name}", amount / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::sample::terms;

    #[test]
    fn every_end_has_its_codes() {
        use Side::{Backend, Client};
        for (end, to_client, to_backend) in [
            (End::ClientClosed, None, None),
            (End::BackendClosed, None, None),
            (End::ClientGone, None, Some(1001)),
            (End::BackendGone, Some(1011), None),
            (End::MessageTooBig(Client), Some(1009), Some(1001)),
            (End::MessageTooBig(Backend), Some(1011), Some(1009)),
            (End::Breach(Client, Breach::Rsv), Some(1002), Some(1001)),
            (End::Breach(Backend, Breach::Rsv), Some(1011), Some(1002)),
            (End::Idle, Some(1001), Some(1001)),
            (End::HeartbeatLost, Some(1001), Some(1001)),
            (End::WriteStall(Client), Some(1013), Some(1001)),
            (End::WriteStall(Backend), Some(1011), Some(1001)),
            (End::Drained, Some(1012), Some(1001)),
            (End::Aborted, None, None),
        ] {
            let code = |to| end.code_to(to, &terms()).map(CloseCode::get);
            let codes = (code(Client), code(Backend));
            assert_eq!(codes, (to_client, to_backend), "{end:?}");
            for side in Side::BOTH {
                assert!(end.reason_to(side).len() <= 123);
            }
        }
    }

    #[test]
    fn slug_and_culprit_tell_every_cause_apart() {
        use Side::{Backend, Client};
        let mut told = std::collections::HashSet::new();
        for end in [
            End::ClientClosed,
            End::BackendClosed,
            End::ClientGone,
            End::BackendGone,
            End::MessageTooBig(Client),
            End::MessageTooBig(Backend),
            End::Breach(Client, Breach::Opcode),
            End::Breach(Backend, Breach::Opcode),
            End::Breach(Client, Breach::Unmasked),
            End::Breach(Backend, Breach::Masked),
            End::Idle,
            End::HeartbeatLost,
            End::WriteStall(Client),
            End::WriteStall(Backend),
            End::Drained,
            End::Aborted,
        ] {
            assert!(told.insert((end.by(), end.slug())), "{end:?}");
        }
        assert_eq!(End::MessageTooBig(Backend).by(), "backend");
        assert_eq!(End::Breach(Client, Breach::Opcode).slug(), "ws_opcode");
    }

    #[test]
    fn an_end_by_a_limit_names_the_key_and_its_value() {
        let mut terms = terms();
        for (end, key, value) in [
            (End::Idle, "limits.idle", "1h"),
            (End::HeartbeatLost, "heartbeat.patience", "10s"),
            (End::WriteStall(Side::Client), "limits.write_stall", "30s"),
            (End::MessageTooBig(Side::Client), "limits.message_from_client", "1MiB"),
        ] {
            assert_eq!(end.key(), Some(key));
            assert_eq!(end.value(&terms).as_deref(), Some(value));
        }
        assert_eq!((End::Drained.key(), End::Drained.value(&terms)), (None, None));
        terms.idle = Some(Duration::from_millis(90_500));
        assert_eq!(End::Idle.value(&terms).as_deref(), Some("90500ms"));
        terms.idle = Some(Duration::from_secs(90));
        assert_eq!(End::Idle.value(&terms).as_deref(), Some("90s"));
        terms.message_from_client_max = Some(1500);
        let value = End::MessageTooBig(Side::Client).value(&terms);
        assert_eq!(value.as_deref(), Some("1500B"));
    }

    #[test]
    fn sizes_and_durations_keep_every_digit() {
        for (amount, written) in
            [(0, "0B"), (1, "1B"), (1023, "1023B"), (2048, "2KiB"), (3 << 30, "3GiB")]
        {
            assert_eq!(size(amount), written);
        }
        for (nanos, written) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500_000_000, "1500ms"),
            (60_000_000_000, "1m"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), written);
        }
    }
}
