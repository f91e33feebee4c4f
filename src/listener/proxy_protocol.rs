//! The PROXY protocol, versions 1 and 2, as a balancer in front writes it: a pure parser, and a
//! reader that takes the header off the socket and not one byte more.
//!
//! The specification has a receiver guess nothing: on a listener that expects a header, every
//! connection begins with one, and nothing is done before it is whole.

use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader, Tlv};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::client::ClientAddr;
use crate::net::socket::Socket;
use crate::reject::{ConnectionStage, DropReason};

/// The connection that a header stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedConnection {
    /// The client.
    pub source: ClientAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseProgress {
    /// Every byte belongs to the header, and more must come.
    Partial,
    /// The header is whole.
    Whole {
        /// In bytes; what follows is the client's.
        len: usize,
        /// `None` where the connection is the proxy's own (LOCAL, a health check), or where the
        /// proxy does not say whose it is (UNKNOWN, a Unix socket): the socket's address counts.
        proxied: Option<ProxiedConnection>,
    },
}

/// Why this is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It does not begin like one.
    Missing,
    /// It does, but breaks this rule.
    Bad(&'static str),
}

/// Takes the header off a connection that must begin with one, all of it within `limit`.
///
/// # Errors
/// It is missing, malformed or late ([`DropReason`] names which), or the peer went away before its
/// first byte.
pub async fn read_proxy_header(
    io: &mut Socket,
    limit: Duration,
) -> Result<Option<ProxiedConnection>, DropReason> {
    timeout(limit, take(io)).await.unwrap_or(Err(DropReason::ProxyHeaderTimeout))
}

/// What has arrived is looked at first, and taken only as far as it is the header's.
async fn take(io: &mut Socket) -> Result<Option<ProxiedConnection>, DropReason> {
    let gone = |_| DropReason::ClientDisconnected(ConnectionStage::Accept);
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        let seen = taken + io.peek(&mut bytes[taken..]).await.map_err(gone)?;
        if seen == taken {
            return Err(match taken {
                0 => DropReason::ClientDisconnected(ConnectionStage::Accept),
                _ => DropReason::ProxyHeaderInvalid(
                    "the connection ended in the middle of the header",
                ),
            });
        }
        let (len, whole) = match parse(&bytes[..seen]) {
            Ok(ParseProgress::Partial) => (seen, None),
            Ok(ParseProgress::Whole { len, proxied }) => (len, Some(proxied)),
            Err(ProxyHeaderError::Missing) => return Err(DropReason::ProxyHeaderMissing),
            Err(ProxyHeaderError::Bad(rule)) => return Err(DropReason::ProxyHeaderInvalid(rule)),
        };
        io.read_exact(&mut bytes[taken..len]).await.map_err(gone)?;
        taken = len;
        if let Some(proxied) = whole {
            return Ok(proxied);
        }
    }
}

/// Judges the first bytes of a connection; more of them never change an answer other than
/// [`ParseProgress::Partial`].
///
/// # Errors
/// They are no header, or none that is believed.
pub fn parse(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    match (start(bytes, SIGNATURE_1), start(bytes, SIGNATURE_2)) {
        (SignatureMatch::Other, SignatureMatch::Other) => Err(ProxyHeaderError::Missing),
        (SignatureMatch::Whole, _) => parse_v1(bytes),
        (_, SignatureMatch::Whole) => parse_v2(bytes),
        (SignatureMatch::Damaged, _) | (_, SignatureMatch::Damaged) => Err(ProxyHeaderError::Bad(
            "the signature is damaged (version 1 is written in capitals)",
        )),
        (SignatureMatch::Partial, _) | (_, SignatureMatch::Partial) => Ok(ParseProgress::Partial),
    }
}

/// How some bytes begin, compared with a signature.
enum SignatureMatch {
    Whole,
    Partial,
    /// Meant to be it, but not quite.
    Damaged,
    Other,
}

fn start(bytes: &[u8], signature: &[u8]) -> SignatureMatch {
    let pairs = bytes.iter().zip(signature);
    let alike = pairs.clone().take_while(|(byte, of)| byte.eq_ignore_ascii_case(of)).count();
    let equal = pairs.take_while(|(byte, of)| byte == of).count();
    if equal == signature.len() {
        SignatureMatch::Whole
    } else if equal == bytes.len() || (alike == bytes.len() && alike < TELLING) {
        SignatureMatch::Partial
    } else if alike >= TELLING {
        SignatureMatch::Damaged
    } else {
        SignatureMatch::Other
    }
}

/// A line for people; every octet of it is as the specification has it, or it is none.
fn parse_v1(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match window.len() {
            LINE_BYTES_MAX => Err(ProxyHeaderError::Bad("version 1: no CRLF within 107 bytes")),
            _ => Ok(ParseProgress::Partial),
        };
    };
    let len = end + 1;
    let line = bytes[SIGNATURE_1.len()..end].strip_suffix(b"\r");
    let line = line.ok_or(ProxyHeaderError::Bad("version 1: LF without CR"))?;
    if !line.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Err(ProxyHeaderError::Bad("version 1: not printable ASCII"));
    }
    // What a proxy may say behind UNKNOWN is to be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(ParseProgress::Whole { len, proxied: None });
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"TCP4" | b"TCP6", _, _, source, destination] => {
            if !is_port(source) || !is_port(destination) {
                return Err(ProxyHeaderError::Bad("version 1: a port is no number up to 65535"));
            }
        }
        [b"TCP4" | b"TCP6", ..] => {
            return Err(ProxyHeaderError::Bad("version 1: not two addresses and two ports"));
        }
        _ => return Err(ProxyHeaderError::Bad("version 1: neither TCP4, TCP6 nor UNKNOWN")),
    }
    let proxied = addresses(&bytes[..len], "version 1: an address is malformed")?;
    Ok(ParseProgress::Whole { len, proxied: Some(proxied) })
}

/// Decimal, without sign and without leading zeros, at most 65535.
fn is_port(word: &[u8]) -> bool {
    let plain = word == b"0" || !word.starts_with(b"0");
    let digits = plain && word.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(word).ok().filter(|_| digits);
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

fn parse_v2(bytes: &[u8]) -> Result<ParseProgress, ProxyHeaderError> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE_2.len()..FIXED) else {
        return Ok(ParseProgress::Partial);
    };
    let block = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version {
        0x20 => true,
        0x21 => false,
        0x22..=0x2f => return Err(ProxyHeaderError::Bad("version 2: neither LOCAL nor PROXY")),
        _ => return Err(ProxyHeaderError::Bad("version 2: the version is not 2")),
    };
    if block > BLOCK_BYTES_MAX {
        return Err(ProxyHeaderError::Bad("version 2: longer than 536 bytes"));
    }
    let addresses_len = match family {
        // The whole block, the family too, is to be ignored.
        _ if is_local => block,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        0x02 | 0x12 | 0x22 | 0x32 => return Err(ProxyHeaderError::Bad("version 2: not a stream")),
        _ => return Err(ProxyHeaderError::Bad("version 2: an unknown family of addresses")),
    };
    if block < addresses_len {
        return Err(ProxyHeaderError::Bad("version 2: shorter than its addresses"));
    }
    let len = FIXED + block;
    let Some(header) = bytes.get(..len) else {
        return Ok(ParseProgress::Partial);
    };
    check_fields(header, FIXED + addresses_len)?;
    let proxied = match (is_local, family) {
        (false, 0x11 | 0x21) => Some(addresses(header, "version 2: malformed")?),
        (_, _) => None,
    };
    Ok(ParseProgress::Whole { len, proxied })
}

/// The fields behind the addresses: each ends within the header, is what its type says, and the
/// checksum, if there is one, is right. Nothing else of them is used.
fn check_fields(header: &[u8], from: usize) -> Result<(), ProxyHeaderError> {
    let mut at = from;
    let mut checksum = None;
    while at < header.len() {
        let &[kind, high, low] = header.get(at..at + 3).unwrap_or_default() else {
            return Err(ProxyHeaderError::Bad("version 2: a field is cut off"));
        };
        let value_at = at + 3;
        at = value_at + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value_at..at);
        let value =
            value.ok_or(ProxyHeaderError::Bad("version 2: a field runs past the header's end"))?;
        let field = Tlv::decode(kind, value);
        let field = field
            .map_err(|_| ProxyHeaderError::Bad("version 2: a field is not what its type says"))?;
        // Padding may be empty, and what only its sender understands.
        if value.is_empty() && !matches!(kind, NOOP | 0xe0..=0xff) {
            return Err(ProxyHeaderError::Bad("version 2: an empty field"));
        }
        if let Tlv::Ssl(info) = &field
            && info.tlvs().any(|inner| inner.is_err())
        {
            return Err(ProxyHeaderError::Bad(
                "version 2: a field within the TLS field is malformed",
            ));
        }
        if let Tlv::Crc32c(sum) = field
            && checksum.replace((sum, value_at)).is_some()
        {
            return Err(ProxyHeaderError::Bad("version 2: two checksums"));
        }
    }
    match checksum {
        Some((sum, at)) if sum != crc32c(header, at) => {
            Err(ProxyHeaderError::Bad("version 2: the checksum is wrong"))
        }
        Some(_) | None => Ok(()),
    }
}

/// CRC32c (RFC 9260 appendix A) of a header, the four bytes of the sum itself taken as 0.
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

/// Both addresses of a header that is whole and in order.
fn addresses(
    header: &[u8],
    malformed: &'static str,
) -> Result<ProxiedConnection, ProxyHeaderError> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (parsed, _) =
        ProxyHeader::parse(header, config).map_err(|_| ProxyHeaderError::Bad(malformed))?;
    let found = parsed.proxied_address().ok_or(ProxyHeaderError::Bad(malformed))?;
    let source = ClientAddr::new(found.source);
    if !source.is_unicast() {
        return Err(ProxyHeaderError::Bad("the source is unspecified, broadcast or multicast"));
    }
    Ok(ProxiedConnection { source, destination: found.destination })
}

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// From so many bytes on, a beginning is meant as a header.
const TELLING: usize = 5;

/// Longest line of version 1, with its CRLF.
const LINE_BYTES_MAX: usize = 107;
/// What version 2 has before its addresses.
const FIXED: usize = 16;
/// Most bytes behind that: the longest addresses (216), and more fields than any balancer sends.
const BLOCK_BYTES_MAX: usize = 536;
const HEADER_BYTES_MAX: usize = FIXED + BLOCK_BYTES_MAX;

/// The type of a field that is padding.
const NOOP: u8 = 4;
/// The polynomial, reflected.
const CASTAGNOLI: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests;
