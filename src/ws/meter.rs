//! One direction: where its bytes stand within frames and messages, and how far they may go.
//! The meter owns no bytes: what it cannot decide yet stays with the caller.

use super::Side;
use super::close::{CloseCode, read_payload};
use super::end::Breach;
use super::header::{Header, OpCode, unmask};

/// The payload of a ping of ours.
pub type Token = [u8; 8];

/// What the next bytes are held against.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Largest message, in payload bytes over all its fragments; `u64::MAX`: no limit.
    pub message_max: u64,
    /// The ping whose pong is awaited from this side.
    pub awaited: Option<Token>,
    /// Stop at the next frame boundary: something of ours wants to go out there.
    pub one_frame: bool,
}

/// What may happen to the first bytes of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They may go out, verbatim.
    Pass(Run),
    /// So many are the pong to our ping.
    Own(usize),
    /// So many are a Close frame with this code.
    Close {
        /// Bytes of the whole frame.
        len: usize,
        /// Its code, if it has one.
        code: Option<CloseCode>,
    },
    /// A decision needs more bytes than these.
    Starved,
    /// They announce more than [`Watch::message_max`]; nothing is consumed.
    TooBig,
    /// They are unlawful; nothing is consumed.
    Breach(Breach),
}

/// A run of bytes that may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How many bytes.
    pub len: usize,
    /// Messages whose last byte is among them.
    pub messages: u64,
    /// Whether a byte of a data frame is among them.
    pub data: bool,
}

/// The position of one direction within its frames and messages.
#[derive(Clone, Debug)]
pub struct FrameMeter {
    /// Bytes of the data frame in progress that have not passed, its mask key among them.
    remaining: u64,
    /// Payload bytes announced by the message in progress.
    message: u64,
    from: Side,
    deflate: bool,
    /// The data frame in progress ends its message.
    fin: bool,
    /// Between the first fragment of a message and its last.
    fragmented: bool,
}

impl FrameMeter {
    /// For frames that come from this side; `deflate`: RSV1 is lawful (RFC 7692).
    pub fn new(from: Side, deflate: bool) -> Self {
        Self { remaining: 0, message: 0, from, deflate, fin: false, fragmented: false }
    }

    /// Whether the bytes that passed end with a whole frame.
    pub fn at_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// Judges the first bytes of `input`. A run goes on over as many frames as it can.
    pub fn cut(&mut self, input: &[u8], watch: &Watch) -> Cut {
        let mut run = Run::default();
        if self.remaining > 0 {
            self.advance(input.len(), &mut run);
            if watch.one_frame || run.len == input.len() {
                return if run.len > 0 { Cut::Pass(run) } else { Cut::Starved };
            }
        }
        while let Some(rest) = input.get(run.len..) {
            match self.frame(rest, watch, &mut run) {
                Ok(()) if watch.one_frame => break,
                Ok(()) => {}
                Err(_) if run.len > 0 => break,
                Err(cut) => return cut,
            }
        }
        Cut::Pass(run)
    }

    /// Adds the frame at the start of `rest` to the run, as far as it is there; on `Err` nothing
    /// has changed.
    #[inline]
    fn frame(&mut self, rest: &[u8], watch: &Watch, run: &mut Run) -> Result<(), Cut> {
        let header = match Header::parse(rest, self.from, self.deflate) {
            Ok(Some(header)) => header,
            Ok(None) => return Err(Cut::Starved),
            Err(breach) => return Err(Cut::Breach(breach)),
        };
        match header.opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                self.open(&header, watch)?;
                run.len += header.len;
                self.advance(rest.len() - header.len, run);
                Ok(())
            }
            OpCode::Ping | OpCode::Pong | OpCode::Close => {
                run.len += control(&header, rest, watch)?;
                Ok(())
            }
        }
    }

    /// Begins a data frame if it is lawful here.
    #[inline]
    fn open(&mut self, header: &Header, watch: &Watch) -> Result<(), Cut> {
        // RFC 6455 5.4
        match (self.fragmented, header.opcode == OpCode::Continuation) {
            (false, true) => return Err(Cut::Breach(Breach::ContinuationStray)),
            (true, false) => return Err(Cut::Breach(Breach::MessageInterleaved)),
            (true, true) | (false, false) => {}
        }
        let before = if self.fragmented { self.message } else { 0 };
        let message = before.saturating_add(header.payload_len);
        if message > watch.message_max {
            return Err(Cut::TooBig);
        }
        self.message = message;
        self.fin = header.fin;
        self.fragmented = !header.fin;
        self.remaining = header.payload_len + header.key_len as u64;
        Ok(())
    }

    /// Lets the data frame in progress have as many of `available` bytes as it needs.
    #[inline]
    fn advance(&mut self, available: usize, run: &mut Run) {
        let taken = usize::try_from(self.remaining).map_or(available, |left| left.min(available));
        self.remaining -= taken as u64;
        run.len += taken;
        run.data = true;
        if self.remaining == 0 {
            run.messages += u64::from(self.fin);
        }
    }
}

/// The length of a whole control frame that passes.
fn control(header: &Header, rest: &[u8], watch: &Watch) -> Result<usize, Cut> {
    let start = header.len + header.key_len;
    let len = usize::try_from(header.payload_len).map_or(usize::MAX, |payload| start + payload);
    let (Some(key), Some(payload)) = (rest.get(header.len..start), rest.get(start..len)) else {
        return Err(Cut::Starved);
    };
    let key = key.first_chunk::<4>().copied();
    if header.opcode == OpCode::Close {
        return Err(match read_payload(payload, key) {
            Ok(code) => Cut::Close { len, code },
            Err(breach) => Cut::Breach(breach),
        });
    }
    if let (OpCode::Pong, Some(awaited)) = (header.opcode, watch.awaited)
        && let Ok(mut token) = Token::try_from(payload)
    {
        unmask(&mut token, key);
        if token == awaited {
            return Err(Cut::Own(len));
        }
    }
    Ok(len)
}
