//! What hyper hides of a request's framing.
//!
//! hyper drops a Content-Length beside a Transfer-Encoding and folds equal Content-Lengths into
//! one, where RFC 9112 6.3 has us refuse. So the bytes that it reads are watched on their way:
//! only where a head begins and ends, and which lines of three names it has. The watch judges
//! nothing that hyper refuses by itself; where it loses its place, no request passes any more.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::reject::RejectReason;

/// The verdicts on one connection's heads, shared by its [`FramingHandle`] stream and its service.
#[derive(Clone, Debug)]
pub struct FramingChecker(Arc<Mutex<FramingScanner>>);

impl FramingChecker {
    /// A watch for a new connection.
    pub fn shared() -> Self {
        Self(Arc::new(Mutex::new(FramingScanner::default())))
    }

    /// The verdict on the next head, to be asked once for each request in order. Behind a
    /// request with a chunked body there is none: close the connection with its answer.
    pub fn next_head(&self) -> Result<(), RejectReason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_head()
    }

    fn take(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

/// A stream whose reader is watched.
#[derive(Debug)]
pub struct FramingHandle<T> {
    io: T,
    watch: FramingChecker,
}

impl<T> FramingHandle<T> {
    /// Puts `watch` on what is read from `io`.
    pub fn new(io: T, watch: FramingChecker) -> Self {
        Self { io, watch }
    }

    /// The stream, unwatched.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: Read + Unpin> Read for FramingHandle<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // A cursor does not show what was put through it, hence a piece of our own and a copy.
        let mut piece = [const { MaybeUninit::uninit() }; PIECE_BYTES];
        let room = buf.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::uninit(&mut piece[..room]);
        ready!(Pin::new(&mut self.io).poll_read(cx, piece.unfilled()))?;
        self.watch.take(piece.filled());
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for FramingHandle<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[derive(Debug, Default)]
struct FramingScanner {
    place: ScanPosition,
    head: HeadFraming,
    /// Whole heads seen.
    seen: u64,
    /// Heads asked about.
    asked: u64,
    /// The bad ones among those seen and not asked about.
    bad: VecDeque<(u64, RejectReason)>,
}

/// Where in the stream of requests the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ScanPosition {
    /// Before a request line; empty lines there are skipped (RFC 9112 2.2).
    #[default]
    Between,
    /// In a line of which nothing more is wanted.
    Line,
    /// At the begin of a field line, or in its name.
    Name,
    /// In the value of a Content-Length.
    Length,
    /// This many bytes before the end of a body.
    Body(u64),
    /// Behind a head after which we cannot follow.
    Lost,
}

/// What is wanted of one head.
#[derive(Clone, Copy, Debug, Default)]
struct HeadFraming {
    /// The field name so far, in lower case; what is longer is none of ours.
    name: [u8; NAME_BYTES_MAX],
    name_bytes: usize,
    lengths: u32,
    /// The last Content-Length: hyper refuses those that differ.
    length: u64,
    coded: bool,
    upgrade: bool,
}

impl FramingScanner {
    fn next_head(&mut self) -> Result<(), RejectReason> {
        let asked = self.asked;
        self.asked += 1;
        if asked >= self.seen {
            return Err(RejectReason::RequestInvalid("a request whose begin is not certain"));
        }
        match self.bad.front() {
            Some((index, refusal)) if *index == asked => {
                let refusal = *refusal;
                self.bad.pop_front();
                Err(refusal)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                ScanPosition::Lost => return,
                ScanPosition::Body(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[len..];
                    self.place = body(left - len as u64);
                }
                ScanPosition::Between
                | ScanPosition::Line
                | ScanPosition::Name
                | ScanPosition::Length => {
                    bytes = rest;
                    self.step(byte);
                }
            }
        }
    }

    fn step(&mut self, byte: u8) {
        let head = &mut self.head;
        match (self.place, byte) {
            (ScanPosition::Between, b'\r' | b'\n') => {}
            (ScanPosition::Between, _) => {
                *head = HeadFraming::default();
                self.place = ScanPosition::Line;
            }
            (ScanPosition::Line | ScanPosition::Length, b'\n') => {
                head.name_bytes = 0;
                self.place = ScanPosition::Name;
            }
            (ScanPosition::Name, b'\n') if head.name_bytes == 0 => self.end_head(),
            // hyper takes a carriage return only before a line feed.
            (ScanPosition::Name, b'\r') if head.name_bytes == 0 => {}
            (ScanPosition::Name, b':') => self.place = head.begin_value(),
            (ScanPosition::Name, b'\n') => self.place = ScanPosition::Lost,
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
                    Some(length) => head.length = length,
                    None => self.place = ScanPosition::Lost,
                }
            }
            (ScanPosition::Line | ScanPosition::Body(_) | ScanPosition::Lost, _) => {}
        }
    }

    fn end_head(&mut self) {
        let HeadFraming { lengths, length, coded, upgrade, .. } = self.head;
        let bad = if coded && lengths > 0 {
            Some(RejectReason::RequestInvalid("both Content-Length and Transfer-Encoding"))
        } else if upgrade && lengths > 1 {
            Some(RejectReason::HandshakeInvalid("more than one Content-Length"))
        } else {
            None
        };
        if let Some(refusal) = bad {
            if self.bad.len() == BAD_MAX {
                self.place = ScanPosition::Lost;
                return;
            }
            self.bad.push_back((self.seen, refusal));
        }
        self.seen += 1;
        // Chunks are not followed: that would be a second parser to disagree with hyper's.
        self.place = if coded { ScanPosition::Lost } else { body(length) };
    }
}

impl HeadFraming {
    fn begin_value(&mut self) -> ScanPosition {
        match self.name.get(..self.name_bytes) {
            Some(b"content-length") => {
                self.lengths += 1;
                self.length = 0;
                return ScanPosition::Length;
            }
            Some(b"transfer-encoding") => self.coded = true,
            Some(b"upgrade") => self.upgrade = true,
            Some(_) | None => {}
        }
        ScanPosition::Line
    }
}

fn body(left: u64) -> ScanPosition {
    if left == 0 { ScanPosition::Between } else { ScanPosition::Body(left) }
}

/// As long as the longest name that is looked for.
const NAME_BYTES_MAX: usize = "transfer-encoding".len();

/// Most bad heads that may wait for their requests; a client that pipelines more is refused.
const BAD_MAX: usize = 16;

/// Most bytes handed to hyper at a time.
const PIECE_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests;
