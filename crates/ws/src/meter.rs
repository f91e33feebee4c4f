//! Validates the frames of one direction and enforces the limits on them.
//!
//! The meter tracks the position within frames and messages and returns how many bytes may be
//! forwarded. It stores no bytes: undecided input stays with the caller.

mod checks;
mod compressed;
mod text;

use std::mem;

use crate::frame_step::{FrameRun, FrameStep, MeterContext};
use crate::header::{Header, MASK_BIT, OpCode};
use crate::inflated_size::{DeflateContext, InflatedSizeMeter};
use crate::limit_kind::LimitKind;
use crate::protocol_error::ProtocolError;
use crate::side::Side;
use crate::stats::MessageSizes;
use crate::token_bucket::TokenBucket;
use crate::utf8_check::Utf8Check;
use crate::violation::ReportedViolations;

/// Validates the frames of one direction.
#[derive(Debug)]
pub struct FrameMeter {
    position: FramePosition,
    from: Side,
    deflate: bool,
    /// An invalid Close was reported and passed; its sender considers the session closed.
    sent_invalid_close: bool,
    messages: TokenBucket,
    control_frames: TokenBucket,
    /// Examines the payload of the message in progress.
    inspector: Option<Box<Inspector>>,
    /// CPU cost of the current step beyond that of short messages, in bytes copied.
    work: u32,
    /// What the last compressed message left behind, with context takeover.
    deflate_context: DeflateContext,
    /// Violations that were reported instead of closing the session.
    pub(crate) reported: ReportedViolations,
    /// The size that closed the session, or else the largest that was reported; 0 if none.
    exceeded_size: u64,
}

/// What examines payload.
#[derive(Debug)]
enum Inspector {
    /// Measures a compressed message.
    Size(Box<InflatedSizeMeter>),
    /// Checks a text message that did not arrive in one piece.
    Text(Utf8Check),
}

#[derive(Clone, Copy, Debug, Default)]
struct FramePosition {
    /// Bytes of the frame in progress that have not passed, the mask key included.
    remaining: u64,
    /// Payload bytes announced so far by the message in progress.
    message: u64,
    /// Frames of the message in progress.
    fragments: u32,
    /// The frame in progress is the last of its message.
    fin: bool,
    /// Between the first fragment of a message and the last.
    fragmented: bool,
    /// The message in progress is compressed.
    compressed: bool,
    /// The frame in progress is invalid and belongs to no message.
    outside: bool,
}

impl FrameMeter {
    /// A meter for frames from this side. `deflate` tells whether RSV1 was negotiated (RFC 7692).
    pub fn new(from: Side, deflate: bool) -> Self {
        Self {
            position: FramePosition::default(),
            from,
            deflate,
            sent_invalid_close: false,
            messages: TokenBucket::new(),
            control_frames: TokenBucket::new(),
            inspector: None,
            work: 0,
            deflate_context: DeflateContext::default(),
            reported: ReportedViolations::default(),
            exceeded_size: 0,
        }
    }

    /// Bytes of the frame in progress that have not passed yet.
    pub fn remaining_in_frame(&self) -> u64 {
        self.position.remaining
    }

    /// Whether a whole invalid Close was passed on.
    pub(crate) fn sent_invalid_close(&self) -> bool {
        self.sent_invalid_close && self.at_boundary()
    }

    /// Whether the bytes that passed end with a complete frame.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.position.remaining == 0
    }

    /// Whether the bytes that passed end with a complete message.
    #[inline]
    pub fn is_between_messages(&self) -> bool {
        self.position.remaining == 0 && !self.position.fragmented
    }

    /// Whether the bytes that passed end within a message. An invalid frame that was let through
    /// between two messages is not a message.
    #[inline]
    pub fn is_in_message(&self) -> bool {
        let FramePosition { remaining, fragmented, outside, .. } = self.position;
        fragmented || (remaining > 0 && !outside)
    }

    /// Validates the first bytes of `input`. The result covers as many frames as possible, but ends
    /// after a bounded amount of work, about 10 µs. Messages that end in it are added to `sizes`.
    #[inline]
    pub fn next_step(
        &mut self,
        input: &[u8],
        context: &MeterContext<'_>,
        sizes: &mut MessageSizes,
    ) -> FrameStep {
        let step = if context.utf8 {
            self.scan::<true>(input, context, sizes)
        } else {
            self.scan::<false>(input, context, sizes)
        };
        sizes.work = sizes.work.saturating_add(u64::from(mem::take(&mut self.work)));
        step
    }

    /// `UTF8`: [`MeterContext::utf8`], so that it costs nothing where it is off.
    fn scan<const UTF8: bool>(
        &mut self,
        input: &[u8],
        context: &MeterContext<'_>,
        sizes: &mut MessageSizes,
    ) -> FrameStep {
        let mut run = FrameRun::default();
        if self.position.remaining > 0 {
            let inspected = self.inspect(input, context);
            if let Err(step) = inspected.and_then(|()| self.continue_checked_frame(input, context))
            {
                return step;
            }
            self.advance(input.len(), &mut run, sizes);
            let stop = context.stop_at_boundary || self.is_step_done() || !self.at_boundary();
            if stop || run.len == input.len() {
                return if run.len > 0 { FrameStep::Forward(run) } else { FrameStep::Incomplete };
            }
        }
        let payload_max = context.limits.unfragmented_max();
        while let Some(rest) = input.get(run.len..) {
            if (!UTF8 || Self::needs_no_check(rest))
                && let Some((len, payload)) = self.short_message(rest, payload_max, context)
            {
                run.end_message(len, payload, false, sizes);
                if context.stop_at_boundary {
                    break;
                }
                continue;
            }
            match self.add_frame(rest, context, &mut run, sizes) {
                Ok(()) if context.stop_at_boundary || self.is_step_done() => break,
                Ok(()) if !self.at_boundary() => break,
                Ok(()) => {}
                Err(_) if run.len > 0 => break,
                Err(step) => return step,
            }
        }
        FrameStep::Forward(run)
    }

    /// Whether the driver is to look at the clock before more frames are checked.
    #[inline(always)]
    fn is_step_done(&self) -> bool {
        self.work >= STEP_WORK
    }

    #[inline(always)]
    fn add_work(&mut self, work: u32) {
        self.work = self.work.saturating_add(work);
    }

    /// Fast path for the common case: a short, complete, unfragmented message to which
    /// [`FrameMeter::add_frame`] would not object. Returns its length and that of its payload.
    #[inline(always)]
    fn short_message(
        &mut self,
        rest: &[u8],
        payload_max: u64,
        context: &MeterContext<'_>,
    ) -> Option<(usize, u64)> {
        let &[first, second] = rest.first_chunk::<2>()?;
        let (mask_bit, key_len) = match self.from {
            Side::Client => (MASK_BIT, 4),
            Side::Backend => (0, 0),
        };
        // A wrong mask bit yields a length above 127, which is rejected below.
        let short_len = second ^ mask_bit;
        if !matches!(first, FIN_TEXT | FIN_BINARY) || self.position.fragmented {
            return None;
        }
        let (payload, header_len) = match short_len {
            0..126 => (u16::from(short_len), 2),
            126 => {
                let long = u16::from_be_bytes(*rest.get(2..)?.first_chunk::<2>()?);
                (Some(long).filter(|long| *long >= 126)?, 4)
            }
            127.. => return None,
        };
        let len = header_len + key_len + usize::from(payload);
        let payload = u64::from(payload);
        if len > rest.len() || payload > payload_max {
            return None;
        }
        match &context.limits.messages {
            Some(rate) if !self.messages.take(rate, context.now) => None,
            Some(_) | None => Some((len, payload)),
        }
    }

    /// Adds the available part of the frame at the start of `rest` to the run. On `Err` nothing has
    /// changed.
    #[inline(always)]
    fn add_frame(
        &mut self,
        rest: &[u8],
        context: &MeterContext<'_>,
        run: &mut FrameRun,
        sizes: &mut MessageSizes,
    ) -> Result<(), FrameStep> {
        let header = match Header::parse(rest, self.from, self.deflate) {
            Ok(Some(header)) => header,
            Ok(None) => return Err(FrameStep::Incomplete),
            Err(error) => return self.add_invalid_frame(error, rest, context, run, sizes),
        };
        self.add_work(WORK_PER_FRAME);
        match header.opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                if header.compressed || self.measures_size() {
                    self.begin_compressed_frame(&header, rest, context)?;
                } else if context.utf8 {
                    self.begin_checked_frame(&header, rest, context)?;
                } else {
                    self.begin_data_frame(&header, context)?;
                }
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
            OpCode::Ping | OpCode::Pong | OpCode::Close => {
                run.len += self.control_frame(&header, rest, context)?;
                Ok(())
            }
        }
    }

    /// Starts a data frame if it is valid at this position and within the limits.
    #[inline(always)]
    fn begin_data_frame(
        &mut self,
        header: &Header,
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        let continues = header.opcode == OpCode::Continuation;
        // RFC 6455 5.4
        if continues != self.position.fragmented {
            self.protocol_error(
                if continues {
                    ProtocolError::StrayContinuation
                } else {
                    ProtocolError::InterleavedMessage
                },
                context,
            )?;
        }
        let (mut message, mut fragments, mut compressed) = (0, 0, header.compressed);
        if self.position.fragmented {
            // Also for a new message inside: a reported error does not reset the message's limits.
            FramePosition { message, fragments, compressed, .. } = self.position;
            compressed |= header.compressed;
        }
        message = u64::saturating_add(message, header.payload_len);
        fragments = u32::saturating_add(fragments, 1);
        let limits = context.limits;
        self.check_max(LimitKind::Frame, header.payload_len, limits.frame)?;
        match context.inflated_max {
            // The decompressed size is limited instead.
            Some(max) if compressed && message <= InflatedSizeMeter::compressed_max(max) => {}
            Some(_) | None => self.check_max(LimitKind::Message, message, limits.message)?,
        }
        self.check_max(LimitKind::Fragments, u64::from(fragments), limits.fragments)?;
        if let Some(rate) = &limits.messages
            && !continues
        {
            let taken = self.messages.take(rate, context.now);
            self.check_rate(LimitKind::Messages, taken || context.ignores(rate), rate, |meter| {
                meter.messages.available_at(rate, 1)
            })?;
        }
        self.position = FramePosition {
            remaining: header.payload_len + header.key_len as u64,
            message,
            fragments,
            fin: header.fin,
            fragmented: !header.fin,
            compressed,
            outside: false,
        };
        Ok(())
    }

    #[inline(always)]
    fn measures_size(&self) -> bool {
        matches!(self.inspector.as_deref(), Some(Inspector::Size(_)))
    }

    /// How many of the available bytes to take as part of the frame in progress.
    #[inline(always)]
    fn frame_bytes(&self, available: usize) -> usize {
        let max = if self.measures_size() { INSPECT_BYTES_MAX } else { usize::MAX };
        let available = available.min(max);
        usize::try_from(self.position.remaining).map_or(available, |left| left.min(available))
    }

    /// Advances the frame in progress over the available bytes that belong to it.
    #[inline(always)]
    fn advance(&mut self, available: usize, run: &mut FrameRun, sizes: &mut MessageSizes) {
        let taken = self.frame_bytes(available);
        let position = &mut self.position;
        position.remaining -= taken as u64;
        if position.remaining == 0 && position.fin && !position.outside {
            run.end_message(taken, position.message, position.compressed, sizes);
        } else {
            run.len += taken;
            run.data |= !position.outside;
        }
    }
}

/// CPU cost after which a step ends, in bytes copied: about 10 µs.
const STEP_WORK: u32 = 16 * 1024;
/// CPU cost of a frame that [`FrameMeter::short_message`] does not take, in bytes copied.
const WORK_PER_FRAME: u32 = 32;
/// Bytes measured at a time: at most 100 µs.
const INSPECT_BYTES_MAX: usize = 4 * 1024;
const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
