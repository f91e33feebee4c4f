//! Control frames, frames that break a rule, and what becomes of them.

use super::{FrameMeter, FramePosition};
use crate::close::read_payload;
use crate::cut::{FrameRun, FrameStep, PingPayload, Policy};
use crate::header::{Header, OpCode, unmask};
use crate::limits::{Limit, LimitAction, RateLimit, Strictness};
use crate::moment::Timestamp;
use crate::{LimitKind, MessageSizes, ProtocolError, Violation};

impl FrameMeter {
    /// The length of a whole control frame that passes.
    pub(super) fn control(
        &mut self,
        header: &Header,
        rest: &[u8],
        watch: &Policy<'_>,
    ) -> Result<usize, FrameStep> {
        let start = header.len + header.key_len;
        let len = usize::try_from(header.payload_len).map_or(usize::MAX, |payload| start + payload);
        let (Some(key), Some(payload)) = (rest.get(header.len..start), rest.get(start..len)) else {
            return Err(FrameStep::Starved);
        };
        let key = key.first_chunk::<4>().copied();
        if header.opcode == OpCode::Close {
            let code = match read_payload(payload, key) {
                Ok(code) => code,
                Err(breach) => {
                    self.offend(breach, watch)?;
                    None
                }
            };
            return Err(FrameStep::Close { len, code });
        }
        if header.opcode == OpCode::Pong
            && !watch.awaited.is_empty()
            && let Ok(mut token) = PingPayload::try_from(payload)
        {
            unmask(&mut token, key);
            if watch.awaited.contains(&token) {
                return Err(FrameStep::Own { len, token });
            }
        }
        if let Some(rate) = &watch.limits.control_frames {
            let taken = self.control_frames.take(rate, watch.now);
            self.rate(LimitKind::Controls, taken || waived(rate, watch), rate, |meter| {
                meter.control_frames.when(rate, 1)
            })?;
        }
        Ok(len)
    }

    /// A frame that breaks a rule passes, if it is to be told only, and ends somewhere.
    #[cold]
    pub(super) fn condone(
        &mut self,
        breach: ProtocolError,
        rest: &[u8],
        watch: &Policy<'_>,
        run: &mut FrameRun,
        sizes: &mut MessageSizes,
    ) -> Result<(), FrameStep> {
        self.offend(breach, watch)?;
        match Header::outline(rest) {
            Err(breach) => Err(FrameStep::Breach(breach)),
            Ok(None) => Err(FrameStep::Starved),
            Ok(Some((header, Some(OpCode::Ping | OpCode::Pong | OpCode::Close)))) => {
                run.len += self.control(&header, rest, watch)?;
                Ok(())
            }
            Ok(Some((header, Some(OpCode::Text | OpCode::Binary | OpCode::Continuation)))) => {
                self.compressed_frame(&header, rest, watch)?;
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
            Ok(Some((header, None))) => {
                self.cap(LimitKind::Frame, header.payload_len, watch.limits.frame)?;
                self.cap(LimitKind::Message, header.payload_len, watch.limits.message)?;
                self.charge_stray(Header::is_control(rest), watch)?;
                let before = self.position;
                self.position = FramePosition {
                    remaining: header.payload_len + header.key_len as u64,
                    stray: true,
                    ..before
                };
                run.len += header.len;
                self.advance(rest.len() - header.len, run, sizes);
                Ok(())
            }
        }
    }

    /// What a frame would cost if it were what it says.
    fn charge_stray(&mut self, control: bool, watch: &Policy<'_>) -> Result<(), FrameStep> {
        let limits = watch.limits;
        let (rule, rate) = if control {
            (LimitKind::Controls, limits.control_frames)
        } else {
            (LimitKind::Messages, limits.messages)
        };
        let Some(rate) = &rate else { return Ok(()) };
        let bucket = if control { &mut self.control_frames } else { &mut self.messages };
        let taken = bucket.take(rate, watch.now) || waived(rate, watch);
        let next = bucket.when(rate, 1);
        self.rate(rule, taken, rate, |_| next)
    }

    /// A broken rule ends the run, or is only noted.
    #[cold]
    pub(super) fn offend(
        &mut self,
        breach: ProtocolError,
        watch: &Policy<'_>,
    ) -> Result<(), FrameStep> {
        match watch.strict {
            Strictness::Enforce => Err(FrameStep::Breach(breach)),
            Strictness::Report => {
                self.reported.add(Violation::Breach(breach));
                Ok(())
            }
        }
    }

    #[inline(always)]
    pub(super) fn cap(
        &mut self,
        rule: LimitKind,
        amount: u64,
        cap: Option<Limit>,
    ) -> Result<(), FrameStep> {
        match cap {
            Some(cap) if amount > cap.max => self.over(rule, Some(cap.action)),
            Some(_) | None => Ok(()),
        }
    }

    #[inline]
    pub(super) fn rate(
        &mut self,
        rule: LimitKind,
        taken: bool,
        rate: &RateLimit,
        next: impl Fn(&Self) -> Timestamp,
    ) -> Result<(), FrameStep> {
        if taken {
            return Ok(());
        }
        match rate.action {
            LimitAction::Delay => Err(FrameStep::Later(next(self), rule)),
            LimitAction::Close | LimitAction::Report => self.over(rule, Some(rate.action)),
        }
    }

    /// A crossed limit ends the run, or is only noted.
    #[cold]
    pub(super) fn over(
        &mut self,
        rule: LimitKind,
        action: Option<LimitAction>,
    ) -> Result<(), FrameStep> {
        match action {
            Some(LimitAction::Close) => Err(FrameStep::Over(rule)),
            Some(LimitAction::Delay | LimitAction::Report) | None => {
                self.reported.add(Violation::Over(rule));
                Ok(())
            }
        }
    }
}

/// What would only be delayed has no time for it.
pub(super) fn waived(rate: &RateLimit, watch: &Policy<'_>) -> bool {
    watch.hurried && rate.action == LimitAction::Delay
}
