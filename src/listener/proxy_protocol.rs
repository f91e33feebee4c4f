//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): a parser without I/O, and a
//! reader that consumes the header from the socket and nothing after it.
//!
//! As the specification requires, nothing is guessed: on a listener that expects a header, every
//! connection must start with one, and nothing else happens before it is complete.

use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader, Tlv};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::client::ClientAddr;
use crate::net::socket::Socket;
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// The connection from the client to the proxy, as the header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedConnection {
    /// The client, as the proxy saw it.
    pub source: ClientAddr,
    /// Address that the client connected to.
    pub destination: SocketAddr,
}

/// The result of parsing the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseProgress {
    /// All bytes belong to the header, and it is not complete yet.
    Partial,
    /// The header is complete and valid.
    Complete {
        /// Length of the header in bytes; data of the client follows.
        len: usize,
        /// `None` if the proxy itself opened the connection (LOCAL, a health check) or does not name
        /// the client (UNKNOWN, a Unix socket). The peer address of the socket applies then.
        proxied: Option<ProxiedConnection>,
    },
}

/// Why the bytes are not a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// They do not start with a signature.
    Missing,
    /// They start with a signature, but violate this rule.
    Invalid(&'static str),
}

/// Consumes the header of a connection that must start with one, within `limit`. Returns `None` if
/// the header names no client.
///
/// # Errors
/// The header is missing, invalid or incomplete after `limit` ([`DropReason`] says which), or the
/// peer disconnected before the first byte.
pub async fn read_proxy_header(
    io: &mut Socket,
    limit: Duration,
) -> Result<Option<ProxiedConnection>, DropReason> {
    timeout(limit, consume_header(io)).await.unwrap_or(Err(DropReason::ProxyHeaderTimeout))
}

/// Peeks at the received bytes and consumes only those of the header.
async fn consume_header(io: &mut Socket) -> Result<Option<ProxiedConnection>, DropReason> {
    let gone = |_| DropReason::ClientDisconnected(ConnectionStage::Accept);
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut consumed = 0;
    loop {
        let seen = consumed + io.peek(&mut bytes[consumed..]).await.map_err(gone)?;
        if seen == consumed {
            return Err(match consumed {
                0 => DropReason::ClientDisconnected(ConnectionStage::Accept),
                _ => DropReason::ProxyHeaderInvalid("the connection ended within the header"),
            });
        }
        let (len, complete) = match parse(&bytes[..seen]) {
            Ok(ParseProgress::Partial) => (seen, None),
            Ok(ParseProgress::Complete { len, proxied }) => (len, Some(proxied)),
            Err(ProxyHeaderError::Missing) => return Err(DropReason::ProxyHeaderMissing),
            Err(ProxyHeaderError::Invalid(rule)) => {
                return Err(DropReason::ProxyHeaderInvalid(rule));
            }
        };
        io.read_exact(&mut bytes[consumed..len]).await.map_err(gone)?;
        consumed = len;
        if let Some(proxied) = complete {
            return Ok(proxied);
        }
    }
}

/// Parses the first bytes of a connection. Further bytes change the result only if it is
/// [`ParseProgress::Partial`].
///
/// | match of signature 1 | match of signature 2 | result |
/// | --- | --- | --- |
/// | other | other | `Missing` |
/// | complete | any | the version 1 parser decides |
/// | any | complete | the version 2 parser decides |
/// | malformed | any but complete | `Invalid` |
/// | any but complete | malformed | `Invalid` |
/// | partial | partial or other | `Partial` |
/// | other | partial | `Partial` |
///
/// # Errors
/// The bytes are not a header, or the header violates the specification.
pub fn parse(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    match (match_signature(bytes, SIGNATURE_1), match_signature(bytes, SIGNATURE_2)) {
        (SignatureMatch::Other, SignatureMatch::Other) => Err(ProxyHeaderError::Missing),
        (SignatureMatch::Complete, _) => parse_v1(bytes),
        (_, SignatureMatch::Complete) => parse_v2(bytes),
        (SignatureMatch::Malformed, _) | (_, SignatureMatch::Malformed) => {
            Err(ProxyHeaderError::Invalid(
                "the signature is malformed (version 1 is written in upper case: PROXY)",
            ))
        }
        (SignatureMatch::Partial, _) | (_, SignatureMatch::Partial) => Ok(ParseProgress::Partial),
    }
}

/// How the first bytes compare to a signature.
enum SignatureMatch {
    Complete,
    Partial,
    /// Similar enough that a header was intended, but not equal.
    Malformed,
    Other,
}

fn match_signature(bytes: &[u8], signature: &[u8]) -> SignatureMatch {
    let pairs = bytes.iter().zip(signature);
    let similar = pairs.clone().take_while(|(byte, of)| byte.eq_ignore_ascii_case(of)).count();
    let equal = pairs.take_while(|(byte, of)| byte == of).count();
    if equal == signature.len() {
        SignatureMatch::Complete
    } else if equal == bytes.len() || (similar == bytes.len() && similar < INTENDED_BYTES) {
        SignatureMatch::Partial
    } else if similar >= INTENDED_BYTES {
        SignatureMatch::Malformed
    } else {
        SignatureMatch::Other
    }
}

/// Parses the text format (specification section 2.1), strictly byte by byte.
fn parse_v1(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match window.len() {
            LINE_BYTES_MAX => Err(ProxyHeaderError::Invalid("version 1: no CRLF within 107 bytes")),
            _ => Ok(ParseProgress::Partial),
        };
    };
    let len = end + 1;
    let line = bytes[SIGNATURE_1.len()..end].strip_suffix(b"\r");
    let line = line.ok_or(ProxyHeaderError::Invalid("version 1: LF without CR"))?;
    if !line.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Err(ProxyHeaderError::Invalid("version 1: not printable ASCII"));
    }
    // Section 2.1: everything after UNKNOWN must be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(ParseProgress::Complete { len, proxied: None });
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"TCP4" | b"TCP6", _, _, source, destination] => {
            if !is_port(source) || !is_port(destination) {
                return Err(ProxyHeaderError::Invalid(
                    "version 1: a port is not a number from 0 to 65535",
                ));
            }
        }
        [b"TCP4" | b"TCP6", ..] => {
            return Err(ProxyHeaderError::Invalid(
                "version 1: two addresses and two ports are required",
            ));
        }
        _ => {
            return Err(ProxyHeaderError::Invalid(
                "version 1: the protocol is not TCP4, TCP6 or UNKNOWN",
            ));
        }
    }
    let proxied = parse_addresses(&bytes[..len], "version 1: an address is malformed")?;
    Ok(ParseProgress::Complete { len, proxied: Some(proxied) })
}

/// Whether a word is a decimal port number without sign and leading zeros.
fn is_port(word: &[u8]) -> bool {
    let plain = word == b"0" || !word.starts_with(b"0");
    let digits = plain && word.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(word).ok().filter(|_| digits);
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Parses the binary format (specification section 2.2).
fn parse_v2(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE_2.len()..FIXED) else {
        return Ok(ParseProgress::Partial);
    };
    let block = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version {
        0x20 => true,
        0x21 => false,
        0x22..=0x2f => {
            return Err(ProxyHeaderError::Invalid("version 2: the command is not LOCAL or PROXY"));
        }
        _ => return Err(ProxyHeaderError::Invalid("version 2: the version is not 2")),
    };
    if block > BLOCK_BYTES_MAX {
        return Err(ProxyHeaderError::Invalid("version 2: longer than 536 bytes"));
    }
    let addresses_len = match family {
        // For LOCAL, the family and the addresses must be ignored.
        _ if is_local => block,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        0x02 | 0x12 | 0x22 | 0x32 => {
            return Err(ProxyHeaderError::Invalid("version 2: the transport is not a stream"));
        }
        _ => return Err(ProxyHeaderError::Invalid("version 2: unknown address family")),
    };
    if block < addresses_len {
        return Err(ProxyHeaderError::Invalid("version 2: shorter than its addresses"));
    }
    let len = FIXED + block;
    let Some(header) = bytes.get(..len) else {
        return Ok(ParseProgress::Partial);
    };
    check_tlvs(header, FIXED + addresses_len)?;
    let proxied = match (is_local, family) {
        (false, 0x11 | 0x21) => Some(parse_addresses(header, "version 2: malformed addresses")?),
        (_, _) => None,
    };
    Ok(ParseProgress::Complete { len, proxied })
}

/// Checks the TLVs after the addresses: each must end within the header and match its type, and the
/// checksum must be correct if there is one. Their values are not used otherwise.
fn check_tlvs(header: &[u8], from: usize) -> Result<(), ProxyHeaderError> {
    let mut at = from;
    let mut checksum = None;
    while at < header.len() {
        let &[kind, high, low] = header.get(at..at + 3).unwrap_or_default() else {
            return Err(ProxyHeaderError::Invalid("version 2: a TLV is truncated"));
        };
        let value_at = at + 3;
        at = value_at + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value_at..at);
        let value =
            value.ok_or(ProxyHeaderError::Invalid("version 2: a TLV extends past the header"))?;
        let tlv = Tlv::decode(kind, value);
        let tlv =
            tlv.map_err(|_| ProxyHeaderError::Invalid("version 2: a TLV does not match its type"))?;
        // Only padding and private types (0xe0 and above) may be empty.
        if value.is_empty() && !matches!(kind, NOOP | 0xe0..=0xff) {
            return Err(ProxyHeaderError::Invalid("version 2: a TLV is empty"));
        }
        if let Tlv::Ssl(info) = &tlv
            && info.tlvs().any(|inner| inner.is_err())
        {
            return Err(ProxyHeaderError::Invalid(
                "version 2: a TLV within PP2_TYPE_SSL is malformed",
            ));
        }
        if let Tlv::Crc32c(sum) = tlv
            && checksum.replace((sum, value_at)).is_some()
        {
            return Err(ProxyHeaderError::Invalid("version 2: two checksums"));
        }
    }
    match checksum {
        Some((sum, at)) if sum != crc32c(header, at) => {
            Err(ProxyHeaderError::Invalid("version 2: the checksum is wrong"))
        }
        Some(_) | None => Ok(()),
    }
}

/// CRC32c (RFC 9260 appendix A) of a header in which the four bytes of the checksum count as 0.
fn crc32c(header: &[u8], sum_at: usize) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in header.iter().enumerate() {
        let byte = if (sum_at..sum_at + 4).contains(&at) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ (CASTAGNOLI * low);
        }
    }
    !crc
}

/// Both addresses of a complete header, with `malformed` as the error for invalid ones.
fn parse_addresses(
    header: &[u8],
    malformed: &'static str,
) -> Result<ProxiedConnection, ProxyHeaderError> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (parsed, _) =
        ProxyHeader::parse(header, config).map_err(|_| ProxyHeaderError::Invalid(malformed))?;
    let found = parsed.proxied_address().ok_or(ProxyHeaderError::Invalid(malformed))?;
    let source = ClientAddr::new(found.source);
    if !source.is_unicast() {
        return Err(ProxyHeaderError::Invalid("the source is unspecified, broadcast or multicast"));
    }
    Ok(ProxiedConnection { source, destination: found.destination })
}

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// If this many bytes match a signature except for case, a header was intended.
const INTENDED_BYTES: usize = 5;

/// Longest line of version 1, including CRLF (specification section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// Length of version 2 before the addresses.
const FIXED: usize = 16;
/// Maximum length after that: the longest addresses (216), and more TLVs than any load balancer
/// sends.
const BLOCK_BYTES_MAX: usize = 536;
const HEADER_BYTES_MAX: usize = FIXED + BLOCK_BYTES_MAX;

/// The TLV type for padding, `PP2_TYPE_NOOP`.
const NOOP: u8 = 4;
/// The polynomial of CRC32c, bit-reversed.
const CASTAGNOLI: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests;
