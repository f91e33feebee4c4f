//! Control frames, invalid frames, and the checks against limits.

use super::{FrameMeter, FramePosition, WORK_PER_FRAME};
use crate::control_frame::parse_close_payload;
use crate::frame_step::{FrameRun, FrameStep, MeterContext, PingPayload};
use crate::header::{Header, OpCode, unmask};
use crate::limit_kind::LimitKind;
use crate::policy::{Limit, LimitAction, RateLimit, Strictness};
use crate::protocol_error::ProtocolError;
use crate::stats::MessageSizes;
use crate::timestamp::Timestamp;
use crate::violation::Violation;

impl FrameMeter {
    /// The size in bytes with which a limit on sizes was exceeded: the one that closed the session, or
    /// else the largest that was reported.
    pub(crate) fn exceeded_size(&self) -> Option<u64> {
        Some(self.exceeded_size).filter(|size| *size > 0)
    }

    /// Checks a control frame. Returns its length if it is to be forwarded.
    pub(super) fn control_frame(
        &mut self,
        header: &Header,
        rest: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<usize, FrameStep> {
        let start = header.len + header.key_len;
        let len = usize::try_from(header.payload_len).map_or(usize::MAX, |payload| start + payload);
        let (Some(key), Some(payload)) = (rest.get(header.len..start), rest.get(start..len)) else {
            return Err(FrameStep::Incomplete);
        };
        let key = key.first_chunk::<4>().copied();
        if header.opcode == OpCode::Close {
            let code = match parse_close_payload(payload, key) {
                Ok(code) => code,
                Err(error) => {
                    self.protocol_error(error, context)?;
                    None
                }
            };
            return Err(FrameStep::Close { len, code });
        }
        if header.opcode == OpCode::Pong
            && !context.pending_pings.is_empty()
            && let Ok(mut payload) = PingPayload::try_from(payload)
        {
            unmask(&mut payload, key);
            if context.pending_pings.contains(&payload) {
                return Err(FrameStep::OwnPong { len, payload });
            }
        }
        if let Some(rate) = &context.limits.control_frames {
            let taken = self.control_frames.take(rate, context.now);
            let allowed = taken || context.ignores(rate);
            self.check_rate(LimitKind::ControlFrames, allowed, rate, |meter| {
                meter.control_frames.available_at(rate, 1)
            })?;
        }
        Ok(len)
    }

    /// Forwards an invalid frame if protocol errors are only reported and its end is known.
    #[cold]
    pub(super) fn add_invalid_frame(
        &mut self,
        error: ProtocolError,
        rest: &[u8],
        context: &MeterContext<'_>,
        run: &mut FrameRun,
        sizes: &mut MessageSizes,
    ) -> Result<(), FrameStep> {
        self.protocol_error(error, context)?;
        self.add_work(WORK_PER_FRAME);
        match Header::parse_unchecked(rest) {
            Err(error) => Err(FrameStep::ProtocolError(error)),
            Ok(None) => Err(FrameStep::Incomplete),
            Ok(Some((header, Some(OpCode::Ping | OpCode::Pong | OpCode::Close)))) => {
                run.len += self.control_frame(&header, rest, context)?;
                Ok(())
            }
            Ok(Some((header, Some(OpCode::Text | OpCode::Binary | OpCode::Continuation)))) => {
                self.drop_text_check();
                self.begin_compressed_frame(&header, rest, context)?;
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
            Ok(Some((header, None))) => {
                self.check_max(LimitKind::Frame, header.payload_len, context.limits.frame)?;
                self.check_max(LimitKind::Message, header.payload_len, context.limits.message)?;
                self.charge_unknown_frame(Header::is_control(rest), context)?;
                self.sent_invalid_close |= Header::is_close(rest);
                let before = self.position;
                self.position = FramePosition {
                    remaining: header.payload_len + header.key_len as u64,
                    outside: true,
                    ..before
                };
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
        }
    }

    /// Charges a frame that cannot be interpreted to the rate of its kind.
    fn charge_unknown_frame(
        &mut self,
        control: bool,
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        let limits = context.limits;
        let (limit, rate) = if control {
            (LimitKind::ControlFrames, limits.control_frames)
        } else {
            (LimitKind::Messages, limits.messages)
        };
        let Some(rate) = &rate else { return Ok(()) };
        let bucket = if control { &mut self.control_frames } else { &mut self.messages };
        let allowed = bucket.take(rate, context.now) || context.ignores(rate);
        let next = bucket.available_at(rate, 1);
        self.check_rate(limit, allowed, rate, |_| next)
    }

    /// Fails with a protocol error, or reports it.
    #[cold]
    pub(super) fn protocol_error(
        &mut self,
        error: ProtocolError,
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        match context.strict {
            Strictness::Enforce => Err(FrameStep::ProtocolError(error)),
            Strictness::Report => {
                self.reported.insert(Violation::ProtocolError(error));
                Ok(())
            }
        }
    }

    #[inline(always)]
    pub(super) fn check_max(
        &mut self,
        kind: LimitKind,
        amount: u64,
        limit: Option<Limit>,
    ) -> Result<(), FrameStep> {
        match limit {
            Some(limit) if amount > limit.max => {
                self.keep_size(kind, amount, limit.action);
                self.limit_exceeded(kind, Some(limit.action))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Keeps an amount that exceeds its limit, if it is a size. Inlined although it is cold: a call with
    /// the amount takes registers from the fast path.
    #[inline(always)]
    pub(super) fn keep_size(&mut self, kind: LimitKind, amount: u64, action: LimitAction) {
        let closes = action == LimitAction::Close;
        if kind.is_size() && (closes || amount > self.exceeded_size) {
            self.exceeded_size = amount;
        }
    }

    /// Handles a rate limit. `allowed`: a token was available; `next` returns the time of the next
    /// one.
    #[inline]
    pub(super) fn check_rate(
        &mut self,
        kind: LimitKind,
        allowed: bool,
        rate: &RateLimit,
        next: impl Fn(&Self) -> Timestamp,
    ) -> Result<(), FrameStep> {
        if allowed {
            return Ok(());
        }
        match rate.action {
            LimitAction::Delay => Err(FrameStep::DelayUntil(next(self), kind)),
            LimitAction::Close | LimitAction::Report => {
                self.limit_exceeded(kind, Some(rate.action))
            }
        }
    }

    /// Fails because a limit is exceeded, or reports it.
    #[cold]
    pub(super) fn limit_exceeded(
        &mut self,
        kind: LimitKind,
        action: Option<LimitAction>,
    ) -> Result<(), FrameStep> {
        match action {
            Some(LimitAction::Close) => Err(FrameStep::LimitExceeded(kind)),
            Some(LimitAction::Delay | LimitAction::Report) | None => {
                self.reported.insert(Violation::LimitExceeded(kind));
                Ok(())
            }
        }
    }
}
