//! Text messages that must be UTF-8: each part is checked before it passes.

use super::{FIN_TEXT, FrameMeter, Inspector};
use crate::frame_step::{FrameStep, MeterContext};
use crate::header::{Header, MASK_BIT, OpCode};
use crate::protocol_error::ProtocolError;
use crate::utf8_check::{InvalidUtf8, Utf8Check, is_ascii};

impl FrameMeter {
    /// Whether the frame at the start of `rest` is a complete, short and unfragmented text message of
    /// ASCII, or no unfragmented text message.
    #[inline]
    pub(super) fn needs_no_check(rest: &[u8]) -> bool {
        let Some((&[first, second], body)) = rest.split_first_chunk::<2>() else {
            return false;
        };
        if first != FIN_TEXT {
            return true;
        }
        let len = usize::from(second & !MASK_BIT);
        match body.split_first_chunk::<4>() {
            Some((key, payload)) if len < 126 => {
                payload.get(..len).is_some_and(|payload| is_ascii(payload, *key))
            }
            Some(_) | None => false,
        }
    }

    /// Starts a data frame, like [`FrameMeter::begin_data_frame`], and checks the part of its payload
    /// in `rest` if it belongs to a text message. On `Err` nothing has changed.
    #[inline(never)]
    pub(super) fn begin_checked_frame(
        &mut self,
        header: &Header,
        rest: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        let before = self.position;
        self.begin_data_frame(header, context)?;
        let mut check = match (header.opcode, self.inspector.as_deref()) {
            (OpCode::Text, _) => Utf8Check::default(),
            (OpCode::Continuation, Some(Inspector::Text(started))) => started.clone(),
            _ => {
                self.drop_text_check();
                return Ok(());
            }
        };
        check.begin_frame(header.key_len);
        self.add_work(WORK_PER_CHECK);
        let body = rest.get(header.len..).unwrap_or_default();
        let result = self.check_text(check, body, context);
        if result.is_err() {
            self.position = before;
        }
        result
    }

    /// Checks the available bytes of the frame in progress if it belongs to a text message that is
    /// checked. On `Err` nothing has changed.
    #[inline]
    pub(super) fn continue_checked_frame(
        &mut self,
        available: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        match self.inspector.as_deref() {
            Some(Inspector::Text(started)) if context.utf8 && !self.position.outside => {
                let check = started.clone();
                self.check_text(check, available, context)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the check of a text message, of which an invalid frame was passed on or which has ended.
    pub(super) fn drop_text_check(&mut self) {
        if matches!(self.inspector.as_deref(), Some(Inspector::Text(_))) {
            self.inspector = None;
        }
    }

    /// Checks the available bytes of the frame in progress, and keeps the state for the next ones
    /// unless the message is complete, or is invalid and passes.
    fn check_text(
        &mut self,
        mut check: Utf8Check,
        available: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        let taken = self.frame_bytes(available.len());
        let complete = taken as u64 == self.position.remaining && self.position.fin;
        match check.add(available.get(..taken).unwrap_or_default(), complete) {
            Err(InvalidUtf8) => {
                self.protocol_error(ProtocolError::Utf8, context)?;
                self.inspector = None;
            }
            Ok(()) if complete => self.inspector = None,
            Ok(()) => match self.inspector.as_deref_mut() {
                Some(kept) => *kept = Inspector::Text(check),
                None => self.inspector = Some(Box::new(Inspector::Text(check))),
            },
        }
        Ok(())
    }
}

/// CPU cost of the check of a frame, in bytes copied; that of its payload is a tenth of relaying it.
const WORK_PER_CHECK: u32 = 128;
