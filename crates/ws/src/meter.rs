//! One direction: where its bytes stand within frames and messages, and how far they may go.
//! The meter owns no bytes: what it cannot decide yet stays with the caller.

mod compressed;
mod verdicts;

use std::mem;

use self::verdicts::waived;
use super::bucket::TokenBucket;
use super::cut::{FrameRun, FrameStep, Policy};
use super::deflate::InflatedSizeMeter;
use super::header::{Header, OpCode};
use super::{LimitKind, MessageSizes, ProtocolError, ReportedViolations, Side};

/// The position of one direction within its frames and messages.
#[derive(Debug)]
pub struct FrameMeter {
    position: FramePosition,
    from: Side,
    deflate: bool,
    messages: TokenBucket,
    control_frames: TokenBucket,
    /// Looks into the compressed message in progress.
    inspector: Option<Box<InflatedSizeMeter>>,
    /// What that took in this cut.
    work: u64,
    /// What passed although it would have been the end.
    pub(super) reported: ReportedViolations,
}

#[derive(Clone, Copy, Debug, Default)]
struct FramePosition {
    /// Bytes of the frame in progress that have not passed, its mask key among them.
    remaining: u64,
    /// Payload bytes announced by the message in progress.
    message: u64,
    /// Frames of the message in progress.
    fragments: u32,
    /// The frame in progress ends its message.
    fin: bool,
    /// Between the first fragment of a message and its last.
    fragmented: bool,
    /// The message in progress is compressed.
    compressed: bool,
    /// The frame in progress belongs to no message: an unlawful one that passes.
    stray: bool,
}

impl FrameMeter {
    /// For frames that come from this side; `deflate`: RSV1 is lawful (RFC 7692).
    pub fn new(from: Side, deflate: bool) -> Self {
        Self {
            position: FramePosition::default(),
            from,
            deflate,
            messages: TokenBucket::new(),
            control_frames: TokenBucket::new(),
            inspector: None,
            work: 0,
            reported: ReportedViolations::default(),
        }
    }

    /// Bytes of the frame in progress that are still to pass.
    pub fn left_of_frame(&self) -> u64 {
        self.position.remaining
    }

    /// Whether the bytes that passed end with a whole frame.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.position.remaining == 0
    }

    /// Whether they end with a whole message.
    #[inline]
    pub fn is_between_messages(&self) -> bool {
        self.position.remaining == 0 && !self.position.fragmented
    }

    /// Whether they end inside a message; what was forgiven between two is none.
    #[inline]
    pub fn is_in_message(&self) -> bool {
        let FramePosition { remaining, fragmented, stray, .. } = self.position;
        fragmented || (remaining > 0 && !stray)
    }

    /// Judges the first bytes of `input`. A run goes on over as many frames as it can, but stops
    /// where something was looked into; `sizes` gets the messages that end in it.
    #[inline]
    pub fn cut(&mut self, input: &[u8], watch: &Policy<'_>, sizes: &mut MessageSizes) -> FrameStep {
        let cut = self.cut_run(input, watch, sizes);
        sizes.work = sizes.work.saturating_add(mem::take(&mut self.work));
        cut
    }

    fn cut_run(&mut self, input: &[u8], watch: &Policy<'_>, sizes: &mut MessageSizes) -> FrameStep {
        let mut run = FrameRun::default();
        if self.position.remaining > 0 {
            if let Err(cut) = self.inspect(input, watch) {
                return cut;
            }
            self.advance(input.len(), &mut run, sizes);
            let stop = watch.one_frame || self.work > 0 || !self.at_boundary();
            if stop || run.len == input.len() {
                return if run.len > 0 { FrameStep::Pass(run) } else { FrameStep::Starved };
            }
        }
        let whole_max = watch.limits.whole_max();
        while let Some(rest) = input.get(run.len..) {
            if let Some((len, payload)) = self.whole_message(rest, whole_max, watch) {
                run.end_message(len, payload, false, sizes);
                if watch.one_frame {
                    break;
                }
                continue;
            }
            match self.frame(rest, watch, &mut run, sizes) {
                Ok(()) if watch.one_frame || self.work > 0 || !self.at_boundary() => break,
                Ok(()) => {}
                Err(_) if run.len > 0 => break,
                Err(cut) => return cut,
            }
        }
        FrameStep::Pass(run)
    }

    /// The usual case, first: a short message in one frame, all of which is here, against nothing
    /// of what [`FrameMeter::frame`] would say. Its bytes, and those of its payload.
    #[inline(always)]
    fn whole_message(
        &mut self,
        rest: &[u8],
        whole_max: u64,
        watch: &Policy<'_>,
    ) -> Option<(usize, u64)> {
        let &[first, second] = rest.first_chunk::<2>()?;
        let (mask_bit, key_len) = match self.from {
            Side::Client => (MASKED, 4),
            Side::Backend => (0, 0),
        };
        // The wrong mask bit makes it longer than any length there is.
        let short = second ^ mask_bit;
        if !matches!(first, WHOLE_TEXT | WHOLE_BINARY) || self.position.fragmented {
            return None;
        }
        let (payload, header_len) = match short {
            0..126 => (u16::from(short), 2),
            126 => {
                let long = u16::from_be_bytes(*rest.get(2..)?.first_chunk::<2>()?);
                (Some(long).filter(|long| *long >= 126)?, 4)
            }
            127.. => return None,
        };
        let len = header_len + key_len + usize::from(payload);
        let payload = u64::from(payload);
        if len > rest.len() || payload > whole_max {
            return None;
        }
        match &watch.limits.messages {
            Some(rate) if !self.messages.take(rate, watch.now) => None,
            Some(_) | None => Some((len, payload)),
        }
    }

    /// Adds the frame at the start of `rest` to the run, as far as it is there; on `Err` nothing
    /// has changed.
    #[inline(always)]
    fn frame(
        &mut self,
        rest: &[u8],
        watch: &Policy<'_>,
        run: &mut FrameRun,
        sizes: &mut MessageSizes,
    ) -> Result<(), FrameStep> {
        let header = match Header::parse(rest, self.from, self.deflate) {
            Ok(Some(header)) => header,
            Ok(None) => return Err(FrameStep::Starved),
            Err(breach) => return self.condone(breach, rest, watch, run, sizes),
        };
        match header.opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                if header.compressed || self.inspector.is_some() {
                    self.compressed_frame(&header, rest, watch)?;
                } else {
                    self.open(&header, watch)?;
                }
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
            OpCode::Ping | OpCode::Pong | OpCode::Close => {
                run.len += self.control(&header, rest, watch)?;
                Ok(())
            }
        }
    }

    /// Begins a data frame if it is lawful here.
    #[inline(always)]
    fn open(&mut self, header: &Header, watch: &Policy<'_>) -> Result<(), FrameStep> {
        let continues = header.opcode == OpCode::Continuation;
        // RFC 6455 5.4
        if continues != self.position.fragmented {
            self.offend(
                if continues {
                    ProtocolError::ContinuationStray
                } else {
                    ProtocolError::MessageInterleaved
                },
                watch,
            )?;
        }
        let (mut message, mut fragments, mut compressed) = (0, 0, header.compressed);
        if self.position.fragmented {
            // Also where a new message stands inside: what is forgiven is not begun anew.
            FramePosition { message, fragments, compressed, .. } = self.position;
            compressed |= header.compressed;
        }
        message = u64::saturating_add(message, header.payload_len);
        fragments = u32::saturating_add(fragments, 1);
        let limits = watch.limits;
        self.cap(LimitKind::Frame, header.payload_len, limits.frame)?;
        match watch.inflated_max {
            // What comes out of it is counted exactly.
            Some(max) if compressed && message <= InflatedSizeMeter::wire_max(max) => {}
            Some(_) | None => self.cap(LimitKind::Message, message, limits.message)?,
        }
        self.cap(LimitKind::Fragments, u64::from(fragments), limits.fragments)?;
        if let Some(rate) = &limits.messages
            && !continues
        {
            let taken = self.messages.take(rate, watch.now);
            self.rate(LimitKind::Messages, taken || waived(rate, watch), rate, |meter| {
                meter.messages.when(rate, 1)
            })?;
        }
        self.position = FramePosition {
            remaining: header.payload_len + header.key_len as u64,
            message,
            fragments,
            fin: header.fin,
            fragmented: !header.fin,
            compressed,
            stray: false,
        };
        Ok(())
    }

    /// How many of so many bytes belong to the frame in progress.
    #[inline(always)]
    fn share(&self, available: usize) -> usize {
        let most = if self.inspector.is_some() { LOOK_BYTES } else { usize::MAX };
        let available = available.min(most);
        usize::try_from(self.position.remaining).map_or(available, |left| left.min(available))
    }

    /// Lets the frame in progress have as many of `available` bytes as it needs.
    #[inline(always)]
    fn advance(&mut self, available: usize, run: &mut FrameRun, sizes: &mut MessageSizes) {
        let taken = self.share(available);
        let position = &mut self.position;
        position.remaining -= taken as u64;
        if position.remaining == 0 && position.fin && !position.stray {
            run.end_message(taken, position.message, position.compressed, sizes);
        } else {
            run.len += taken;
            run.data |= !position.stray;
        }
    }
}

/// Looked into at a time, so that whoever drives the session can do something else in between.
const LOOK_BYTES: usize = 16 * 1024;
const MASKED: u8 = 0x80;
const WHOLE_TEXT: u8 = 0x81;
const WHOLE_BINARY: u8 = 0x82;
