//! The rules of RFC 6455 and RFC 7692 that a frame may break.

use std::fmt;

use super::close::CloseCode;

/// A broken rule of RFC 6455 or RFC 7692.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
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
    /// A compressed message that cannot be decompressed (RFC 7692 7.2.2).
    Inflate,
}

impl ProtocolError {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Unmasked,
        Self::Masked,
        Self::Rsv,
        Self::Opcode,
        Self::Length,
        Self::ControlFragmented,
        Self::ControlTooLong,
        Self::ContinuationStray,
        Self::MessageInterleaved,
        Self::CloseLength,
        Self::CloseCode,
        Self::CloseReason,
        Self::Inflate,
    ];

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
            Self::Inflate => "ws_inflate",
        }
    }

    /// What the side at fault is told: 1002, or 1007 for a payload that is not what it must be.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::CloseReason | Self::Inflate => CloseCode::INVALID_DATA,
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

    pub(super) fn words(self) -> &'static str {
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
            Self::Inflate => "compressed message that cannot be decompressed",
        }
    }
}

/// For the operator: the rule, in words.
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
