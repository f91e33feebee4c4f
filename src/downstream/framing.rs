//! Detection of ambiguous request framing, which hyper does not report.
//!
//! hyper drops a Content-Length that occurs together with Transfer-Encoding, and merges equal
//! Content-Lengths; RFC 9112 6.3 requires such requests to be rejected. Therefore the bytes that hyper
//! will read are scanned first, only for the boundaries of heads and for three header names. Everything
//! else is left to hyper. If the scanner loses track of the boundaries, it rejects all further
//! requests of the connection.
//!
//! | state | event | next |
//! | --- | --- | --- |
//! | `BetweenRequests` | CR or LF | `BetweenRequests` |
//! | `BetweenRequests` | other byte | `SkipLine` (the request line) |
//! | `SkipLine`, `Length` | LF | `Name` |
//! | `Length` | not a digit, or overflow | `Lost` |
//! | `Name` | colon after `content-length` | `Length` |
//! | `Name` | colon after another name | `SkipLine` |
//! | `Name` | LF after a name without a colon | `Lost` |
//! | `Name` | LF in an empty line | end of the head: `Lost` if chunked, otherwise `Body` or `BetweenRequests` |
//! | `Body` | last byte | `BetweenRequests` |
//! | `Lost` | any byte | `Lost` |

use std::collections::VecDeque;
use std::io::{self, BufRead as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use crate::net::scratch::{RecvScratch, SendScratch};
use crate::net::{Recv, Stream};
use crate::reject::RejectReason;

/// The results for the heads of one connection, shared by its [`FramingStream`] and its request handler.
#[derive(Clone, Debug)]
pub struct FramingChecker(Arc<Mutex<FramingScanner>>);

impl FramingChecker {
    /// Creates a checker for a new connection.
    pub fn shared() -> Self {
        Self(Arc::new(Mutex::new(FramingScanner::default())))
    }

    /// Returns the result for the next head. Must be called once per request, in order. Requests after
    /// one with a chunked body cannot be checked, so the connection must be closed after that one.
    ///
    /// # Errors
    /// The framing of the request is ambiguous, or its start is unknown.
    pub fn next_head(&self) -> Result<(), RejectReason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_head()
    }

    /// Number of bytes received of a head that is not complete.
    pub fn head_bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).head_bytes
    }

    /// Whether no byte of a head has been received that is not complete and returned.
    pub fn is_between_requests(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_between_requests()
    }

    /// Whether all that was received after the last head that was returned, and after its body, is a part of the
    /// next head.
    pub fn awaits_head(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).awaits_head()
    }

    /// Whether a head announced a body that no connection could carry. hyper rejects it as too large a
    /// head, after it has taken the head from its buffer.
    pub fn is_body_endless(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_body_endless()
    }

    fn scan(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).scan(bytes);
    }
}

/// A stream with a scanner for its incoming bytes. It is below [`HttpIo`](crate::net::http_io::HttpIo), where
/// received bytes can be read without a copy.
#[derive(Debug)]
pub struct FramingStream<S> {
    stream: Box<S>,
    checker: FramingChecker,
}

impl<S> FramingStream<S> {
    /// Scans the bytes received from `stream` with `checker`.
    pub fn new(stream: Box<S>, checker: FramingChecker) -> Self {
        Self { stream, checker }
    }

    /// Returns the wrapped stream.
    pub fn into_inner(self) -> Box<S> {
        self.stream
    }
}

impl<S: Stream> Stream for FramingStream<S> {
    fn poll_recv<'s>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'s mut RecvScratch,
    ) -> Poll<io::Result<Recv<'s>>> {
        let received = ready!(self.stream.poll_recv(cx, scratch))?;
        if let Recv::Data(bytes) = &received {
            self.checker.scan(bytes);
        }
        Poll::Ready(Ok(received))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_ready(cx)
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        scratch: &mut SendScratch,
    ) -> io::Result<()> {
        self.stream.send(cx, parts, scratch)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut SendScratch,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_close(cx, scratch)
    }

    fn abort(&mut self) {
        self.stream.abort();
    }

    fn backlog(&self) -> usize {
        self.stream.backlog()
    }
}

#[derive(Debug, Default)]
struct FramingScanner {
    position: ScanPosition,
    head: HeadFraming,
    /// Number of bytes of the incomplete head.
    head_bytes: usize,
    /// Number of complete heads.
    completed: u64,
    /// Number of results returned.
    returned: u64,
    /// A head announced a body that no connection could carry.
    is_body_endless: bool,
    /// Errors of complete heads that were not returned yet, by index of the head.
    errors: VecDeque<(u64, RejectReason)>,
}

/// The context of the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ScanPosition {
    /// Before a request line. Empty lines are skipped (RFC 9112 2.2).
    #[default]
    BetweenRequests,
    /// In the rest of a line that is not needed.
    SkipLine,
    /// At the start of a header line or in its name.
    Name,
    /// In the value of Content-Length.
    Length,
    /// In a body, with this many bytes left.
    Body(u64),
    /// The boundaries of requests are not known any more.
    Lost,
}

/// The framing headers of one head.
#[derive(Clone, Copy, Debug, Default)]
struct HeadFraming {
    /// The start of the current header name in lower case; longer names are not of interest.
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
    /// Number of Content-Length headers.
    lengths: u32,
    /// The last Content-Length. hyper rejects different values.
    length: u64,
    has_transfer_encoding: bool,
    has_upgrade: bool,
}

impl FramingScanner {
    fn next_head(&mut self) -> Result<(), RejectReason> {
        let index = self.returned;
        self.returned += 1;
        if index >= self.completed {
            return Err(RejectReason::RequestInvalid("start of the request is unknown"));
        }
        match self.errors.front() {
            Some((failed, reason)) if *failed == index => {
                let reason = *reason;
                self.errors.pop_front();
                Err(reason)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_between_requests(&self) -> bool {
        self.position == ScanPosition::BetweenRequests && self.returned == self.completed
    }

    fn awaits_head(&self) -> bool {
        let is_known = !matches!(self.position, ScanPosition::Body(_) | ScanPosition::Lost);
        is_known && self.returned == self.completed
    }

    fn is_body_endless(&self) -> bool {
        self.is_body_endless
    }

    fn scan(&mut self, mut bytes: &[u8]) {
        self.head_bytes += if self.is_in_head() { bytes.len() } else { 0 };
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.position {
                ScanPosition::Lost => break,
                ScanPosition::Body(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[len..];
                    self.position = before_body(left - len as u64);
                }
                ScanPosition::SkipLine => {
                    let (line, rest) = split_line(bytes);
                    bytes = rest;
                    if line.ends_with(b"\n") {
                        self.step(b'\n');
                    }
                }
                ScanPosition::Name if self.head.name_bytes == 0 && is_other_name(bytes) => {
                    bytes = rest;
                    self.position = ScanPosition::SkipLine;
                }
                ScanPosition::BetweenRequests | ScanPosition::Name | ScanPosition::Length => {
                    if self.position == ScanPosition::BetweenRequests {
                        self.head_bytes = bytes.len();
                    }
                    bytes = rest;
                    self.step(byte);
                }
            }
        }
        if !self.is_in_head() {
            self.head_bytes = 0;
        }
    }

    fn is_in_head(&self) -> bool {
        use ScanPosition::{Length, Name, SkipLine};
        matches!(self.position, SkipLine | Name | Length)
    }

    fn step(&mut self, byte: u8) {
        let head = &mut self.head;
        match (self.position, byte) {
            (ScanPosition::BetweenRequests, b'\r' | b'\n') => {}
            (ScanPosition::BetweenRequests, _) => {
                *head = HeadFraming::default();
                self.position = ScanPosition::SkipLine;
            }
            (ScanPosition::SkipLine | ScanPosition::Length, b'\n') => {
                head.name_bytes = 0;
                self.position = ScanPosition::Name;
            }
            (ScanPosition::Name, b'\n') if head.name_bytes == 0 => self.end_head(),
            // hyper accepts a carriage return only before a line feed.
            (ScanPosition::Name, b'\r') if head.name_bytes == 0 => {}
            (ScanPosition::Name, b':') => self.position = head.start_value(),
            (ScanPosition::Name, b'\n') => self.position = ScanPosition::Lost,
            (ScanPosition::Name, byte) => {
                if let Some(slot) = head.name.get_mut(head.name_bytes) {
                    *slot = byte.to_ascii_lowercase();
                }
                head.name_bytes += 1;
            }
            (ScanPosition::Length, b' ' | b'\t' | b'\r') => {}
            (ScanPosition::Length, digit) => {
                let value = char::from(digit).to_digit(10).map(u64::from);
                let length = head.length.checked_mul(10).zip(value);
                match length.and_then(|(tens, ones)| tens.checked_add(ones)) {
                    Some(length) => {
                        head.length = length;
                        self.is_body_endless |= length > i64::MAX as u64;
                    }
                    None => {
                        self.is_body_endless |= value.is_some();
                        self.position = ScanPosition::Lost;
                    }
                }
            }
            (ScanPosition::SkipLine | ScanPosition::Body(_) | ScanPosition::Lost, _) => {}
        }
    }

    fn end_head(&mut self) {
        let HeadFraming { lengths, length, has_transfer_encoding, has_upgrade, .. } = self.head;
        let error = if has_transfer_encoding && lengths > 0 {
            Some(RejectReason::RequestInvalid("both Content-Length and Transfer-Encoding"))
        } else if has_upgrade && lengths > 1 {
            Some(RejectReason::HandshakeInvalid("more than one Content-Length"))
        } else {
            None
        };
        if let Some(reason) = error {
            if self.errors.len() == ERRORS_MAX {
                self.position = ScanPosition::Lost;
                return;
            }
            self.errors.push_back((self.completed, reason));
        }
        self.completed += 1;
        // Chunks are not parsed here: a second parser could disagree with hyper's.
        self.position =
            if has_transfer_encoding { ScanPosition::Lost } else { before_body(length) };
    }
}

impl HeadFraming {
    fn start_value(&mut self) -> ScanPosition {
        let name = self.name.get(..self.name_bytes).unwrap_or_default();
        if name == CONTENT_LENGTH {
            self.lengths += 1;
            self.length = 0;
            return ScanPosition::Length;
        }
        self.has_transfer_encoding |= name == TRANSFER_ENCODING;
        self.has_upgrade |= name == UPGRADE;
        ScanPosition::SkipLine
    }
}

/// Splits after the first line end, if there is one.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = bytes;
    // The library searches many bytes at once. Reading from memory cannot fail.
    let line = rest.skip_until(b'\n').unwrap_or(bytes.len());
    bytes.split_at(line)
}

/// Whether `bytes`, the start of a header line, begin with a complete name that is not of interest. The rest of the
/// name is then a part of the line that is skipped.
fn is_other_name(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| matches!(byte, b':' | b'\r' | b'\n'));
    let Some((name, [b':', ..])) = end.and_then(|end| bytes.split_at_checked(end)) else {
        return false;
    };
    !name.is_empty() && !NAMES.into_iter().any(|of_interest| name.eq_ignore_ascii_case(of_interest))
}

/// The position before a body of this length.
fn before_body(left: u64) -> ScanPosition {
    if left == 0 { ScanPosition::BetweenRequests } else { ScanPosition::Body(left) }
}

const CONTENT_LENGTH: &[u8] = b"content-length";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding";
const UPGRADE: &[u8] = b"upgrade";
/// The names of interest.
const NAMES: [&[u8]; 3] = [CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE];
/// Length of the longest of them.
const NAME_BYTES_MAX: usize = TRANSFER_ENCODING.len();

/// Maximum number of pending errors. More pipelined requests with errors are not checked any more, but
/// rejected.
const ERRORS_MAX: usize = 16;

#[cfg(test)]
mod tests;
