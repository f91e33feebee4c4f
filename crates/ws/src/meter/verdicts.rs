//! Control frames, frames that break a rule, and what becomes of them.

use super::{FrameMeter, Position};
use crate::close::read_payload;
use crate::cut::{Cut, Run, Token, Watch};
use crate::header::{Header, OpCode, unmask};
use crate::limits::{Action, Cap, Rate, Strict};
use crate::moment::Moment;
use crate::{Breach, Offence, Rule, Sizes};

impl FrameMeter {
    /// The length of a whole control frame that passes.
    pub(super) fn control(
        &mut self,
        header: &Header,
        rest: &[u8],
        watch: &Watch<'_>,
    ) -> Result<usize, Cut> {
        let start = header.len + header.key_len;
        let len = usize::try_from(header.payload_len).map_or(usize::MAX, |payload| start + payload);
        let (Some(key), Some(payload)) = (rest.get(header.len..start), rest.get(start..len)) else {
            return Err(Cut::Starved);
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
            return Err(Cut::Close { len, code });
        }
        if header.opcode == OpCode::Pong
            && !watch.awaited.is_empty()
            && let Ok(mut token) = Token::try_from(payload)
        {
            unmask(&mut token, key);
            if watch.awaited.contains(&token) {
                return Err(Cut::Own { len, token });
            }
        }
        if let Some(rate) = &watch.limits.controls {
            let taken = self.controls.take(rate, watch.now);
            self.rate(Rule::Controls, taken || waived(rate, watch), rate, |meter| {
                meter.controls.when(rate, 1)
            })?;
        }
        Ok(len)
    }

    /// A frame that breaks a rule passes, if it is to be told only, and ends somewhere.
    #[cold]
    pub(super) fn condone(
        &mut self,
        breach: Breach,
        rest: &[u8],
        watch: &Watch<'_>,
        run: &mut Run,
        sizes: &mut Sizes,
    ) -> Result<(), Cut> {
        self.offend(breach, watch)?;
        match Header::outline(rest) {
            Err(breach) => Err(Cut::Breach(breach)),
            Ok(None) => Err(Cut::Starved),
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
                self.cap(Rule::Frame, header.payload_len, watch.limits.frame)?;
                self.cap(Rule::Message, header.payload_len, watch.limits.message)?;
                self.charge_stray(Header::is_control(rest), watch)?;
                let before = self.position;
                self.position = Position {
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
    fn charge_stray(&mut self, control: bool, watch: &Watch<'_>) -> Result<(), Cut> {
        let limits = watch.limits;
        let (rule, rate) = if control {
            (Rule::Controls, limits.controls)
        } else {
            (Rule::Messages, limits.messages)
        };
        let Some(rate) = &rate else { return Ok(()) };
        let bucket = if control { &mut self.controls } else { &mut self.messages };
        let taken = bucket.take(rate, watch.now) || waived(rate, watch);
        let next = bucket.when(rate, 1);
        self.rate(rule, taken, rate, |_| next)
    }

    /// A broken rule ends the run, or is only noted.
    #[cold]
    pub(super) fn offend(&mut self, breach: Breach, watch: &Watch<'_>) -> Result<(), Cut> {
        match watch.strict {
            Strict::Enforce => Err(Cut::Breach(breach)),
            Strict::Report => {
                self.reported.add(Offence::Breach(breach));
                Ok(())
            }
        }
    }

    #[inline(always)]
    pub(super) fn cap(&mut self, rule: Rule, amount: u64, cap: Option<Cap>) -> Result<(), Cut> {
        match cap {
            Some(cap) if amount > cap.max => self.over(rule, Some(cap.action)),
            Some(_) | None => Ok(()),
        }
    }

    #[inline]
    pub(super) fn rate(
        &mut self,
        rule: Rule,
        taken: bool,
        rate: &Rate,
        next: impl Fn(&Self) -> Moment,
    ) -> Result<(), Cut> {
        if taken {
            return Ok(());
        }
        match rate.action {
            Action::Delay => Err(Cut::Later(next(self), rule)),
            Action::Close | Action::Report => self.over(rule, Some(rate.action)),
        }
    }

    /// A crossed limit ends the run, or is only noted.
    #[cold]
    pub(super) fn over(&mut self, rule: Rule, action: Option<Action>) -> Result<(), Cut> {
        match action {
            Some(Action::Close) => Err(Cut::Over(rule)),
            Some(Action::Delay | Action::Report) | None => {
                self.reported.add(Offence::Over(rule));
                Ok(())
            }
        }
    }
}

/// What would only be delayed has no time for it.
pub(super) fn waived(rate: &Rate, watch: &Watch<'_>) -> bool {
    watch.hurried && rate.action == Action::Delay
}
