//! HTTP/1.1 messages with a Content-Length, and their generated bodies, which both sides verify.

use std::borrow::Cow;
use std::iter::once;
use std::rc::Rc;

use crate::error::Error;
use crate::message::{MessagePool, Verifier};

pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Size of the messages that a longer body consists of.
const PART_BYTES_MAX: usize = 256 << 10;

/// The value of a header field, compared without case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Finds the messages in the bytes of one direction of a connection.
#[derive(Default)]
pub struct MessageReader {
    /// An incomplete head.
    head: Vec<u8>,
    /// Bytes of the current body that have not arrived yet.
    left: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Head { text: String, length: u64 },
    Body(&'a [u8]),
}

impl MessageReader {
    /// The next event in `bytes`, from whose start it is removed; `None` if more bytes are needed.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if self.left == 0 {
            return self.next_head(bytes);
        }
        let count = self.left.min(bytes.len() as u64);
        let (part, rest) = bytes.split_at(count as usize);
        *bytes = rest;
        self.left -= count;
        Ok(Some(Event::Body(part)))
    }

    /// Whether the last event ended its message.
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.head.is_empty()
    }

    fn next_head<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        let before = self.head.len();
        let most = bytes.len().min(HEAD_BYTES_MAX);
        self.head.extend_from_slice(&bytes[..most]);
        let from = before.saturating_sub(3);
        let Some(at) = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
            if self.head.len() >= HEAD_BYTES_MAX {
                return Err(Error::new(format!("a message head exceeds {HEAD_BYTES_MAX} bytes")));
            }
            *bytes = &bytes[most..];
            return Ok(None);
        };
        let end = from + at + 4;
        *bytes = &bytes[end - before..];
        self.head.truncate(end);
        let text = String::from_utf8(std::mem::take(&mut self.head))
            .map_err(|_| Error::new("received a message head that is not UTF-8"))?;
        if field(&text, "transfer-encoding").is_some() {
            return Err(Error::new("received a message with Transfer-Encoding"));
        }
        let length = field(&text, "content-length").unwrap_or("0");
        let length = length
            .parse()
            .map_err(|_| Error::new(format!("received the Content-Length \"{length}\"")))?;
        self.left = length;
        Ok(Some(Event::Head { text, length }))
    }
}

/// A generated body: consecutive messages of a pool, of which the last one may be cut off.
pub struct Body {
    pool: Rc<MessagePool>,
    size: u64,
    first: u64,
}

impl Body {
    /// Size of the pool's messages for bodies of `size` bytes.
    pub fn part_bytes(size: u64) -> usize {
        size.clamp(1, PART_BYTES_MAX as u64) as usize
    }

    /// A body of `size` bytes that starts with message `first`.
    pub fn new(pool: Rc<MessagePool>, size: u64, first: u64) -> Self {
        Self { pool, size, first }
    }

    /// The pieces to write: the head together with the first message, then the other messages.
    pub fn with_head(&self, head: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let mut parts = self.parts();
        let start = [head.as_bytes(), parts.next().unwrap_or_default()].concat();
        once(Cow::Owned(start)).chain(parts.map(Cow::Borrowed))
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.pool.size() as u64;
        (0..self.size.div_ceil(whole)).map(move |index| {
            let length = whole.min(self.size - index * whole);
            &self.pool.payload(self.first + index)[..length as usize]
        })
    }
}

/// Compares a received body, in pieces of any size, with the generated one.
pub struct BodyVerifier {
    pool: Rc<MessagePool>,
    verifier: Verifier,
    /// Bytes of the current message that have arrived.
    at: usize,
}

impl BodyVerifier {
    pub fn new(pool: Rc<MessagePool>, first: u64) -> Self {
        Self { pool, verifier: Verifier::from(first), at: 0 }
    }

    pub fn verify(&mut self, mut part: &[u8]) -> Result<(), Error> {
        while !part.is_empty() {
            let missing = self.pool.size() - self.at;
            let (now, later) = part.split_at(part.len().min(missing));
            self.verifier.verify(&self.pool, now)?;
            self.at += now.len();
            if now.len() == missing {
                self.verifier.end_message(&self.pool)?;
                self.at = 0;
            }
            part = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_messages_in_pieces_of_any_size() {
        let first = "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n";
        let second = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let bytes = [first, "\r\n\r\nx", second].concat();
        for size in 1..=bytes.len() {
            let (mut reader, mut heads, mut body) =
                (MessageReader::default(), Vec::new(), Vec::new());
            for mut piece in bytes.as_bytes().chunks(size) {
                while let Some(event) = reader.next(&mut piece).unwrap() {
                    match event {
                        Event::Head { text, length } => {
                            assert_eq!(reader.is_complete(), length == 0);
                            heads.push((text, length));
                        }
                        Event::Body(part) => body.extend_from_slice(part),
                    }
                }
            }
            assert_eq!(heads, [(first.to_owned(), 5), (second.to_owned(), 0)], "pieces of {size}");
            assert_eq!(body, b"\r\n\r\nx", "pieces of {size}");
            assert!(reader.is_complete());
        }
    }

    #[test]
    fn rejects_other_framing_and_endless_heads() {
        for head in [
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "x\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(MessageReader::default().next(&mut head.as_bytes()).is_err(), "{head}");
        }
        let endless = vec![b'x'; HEAD_BYTES_MAX];
        assert!(MessageReader::default().next(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn detects_wrong_bytes_in_every_part_of_a_body() {
        let size = 2 * PART_BYTES_MAX as u64 + 1000;
        let pool = Rc::new(MessagePool::unmasked(Body::part_bytes(size)).unwrap());
        let body: Vec<u8> = Body::new(pool.clone(), size, 3).parts().flatten().copied().collect();
        assert_eq!(body.len() as u64, size);
        let verify = |bytes: &[u8], first| {
            let mut verifier = BodyVerifier::new(pool.clone(), first);
            bytes.chunks(100_003).try_for_each(|piece| verifier.verify(piece))
        };
        verify(&body, 3).unwrap();
        assert!(verify(&body, 4).is_err(), "another body");
        for at in [0, PART_BYTES_MAX - 1, PART_BYTES_MAX, body.len() - 1] {
            let mut bad = body.clone();
            bad[at] ^= 1;
            assert!(verify(&bad, 3).is_err(), "byte {at}");
        }
    }
}
