//! Violations of RFC 6455 and RFC 7692.

use std::fmt;

use crate::close_code::CloseCode;

/// A frame that violates RFC 6455 or RFC 7692. Section numbers refer to RFC 6455 unless stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// An unmasked frame from a client (5.1).
    Unmasked,
    /// A masked frame from a server (5.1).
    Masked,
    /// A reserved bit that was not negotiated, or not on the first frame of a message (5.2).
    Rsv,
    /// A reserved opcode (5.2).
    Opcode,
    /// A length that is not in its shortest form, or exceeds 63 bits (5.2).
    Length,
    /// A fragmented control frame (5.5).
    ControlFragmented,
    /// A control frame with more than 125 payload bytes (5.5).
    ControlTooLong,
    /// A continuation frame outside a message (5.4).
    StrayContinuation,
    /// A new message inside a fragmented one (5.4).
    InterleavedMessage,
    /// A Close frame with a payload of one byte (5.5.1).
    CloseLength,
    /// A close code that must not be sent (7.4).
    CloseCode,
    /// A close reason that is not UTF-8 (5.5.1).
    CloseReason,
    /// A compressed message that cannot be decompressed (RFC 7692 7.2.2).
    Inflate,
    /// A text message that is not UTF-8 (8.1).
    Utf8,
}

impl ProtocolError {
    /// Every variant.
    pub const ALL: [Self; 14] = [
        Self::Unmasked,
        Self::Masked,
        Self::Rsv,
        Self::Opcode,
        Self::Length,
        Self::ControlFragmented,
        Self::ControlTooLong,
        Self::StrayContinuation,
        Self::InterleavedMessage,
        Self::CloseLength,
        Self::CloseCode,
        Self::CloseReason,
        Self::Inflate,
        Self::Utf8,
    ];

    /// The name in records and metric labels. Errors of one kind of frame share a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unmasked => "ws_unmasked",
            Self::Masked => "ws_masked",
            Self::Rsv => "ws_rsv",
            Self::Opcode => "ws_opcode",
            Self::Length => "ws_length",
            Self::ControlFragmented | Self::ControlTooLong => "ws_control",
            Self::StrayContinuation | Self::InterleavedMessage => "ws_continuation",
            Self::CloseLength | Self::CloseCode | Self::CloseReason => "ws_close",
            Self::Inflate => "ws_inflate",
            Self::Utf8 => "ws_utf8",
        }
    }

    /// The close code sent to the side that caused the error: 1007 for an invalid payload,
    /// 1002 otherwise (RFC 6455 7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::CloseReason | Self::Inflate | Self::Utf8 => CloseCode::INVALID_DATA,
            Self::Unmasked
            | Self::Masked
            | Self::Rsv
            | Self::Opcode
            | Self::Length
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::StrayContinuation
            | Self::InterleavedMessage
            | Self::CloseLength
            | Self::CloseCode => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// A short description for close reasons and log lines.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Unmasked => "unmasked frame from a client",
            Self::Masked => "masked frame from a server",
            Self::Rsv => "reserved bit set without an extension",
            Self::Opcode => "reserved opcode",
            Self::Length => "length not in its shortest form",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::StrayContinuation => "continuation frame outside a message",
            Self::InterleavedMessage => "new message inside a fragmented one",
            Self::CloseLength => "close payload of one byte",
            Self::CloseCode => "invalid close code",
            Self::CloseReason => "close reason that is not UTF-8",
            Self::Inflate => "compressed message that cannot be decompressed",
            Self::Utf8 => "text message that is not UTF-8",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}
