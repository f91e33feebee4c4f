//! Frames of compressed messages: their decompressed size may be measured before they pass.

use super::{FrameMeter, Inspector};
use crate::frame_step::{FrameStep, MeterContext};
use crate::header::Header;
use crate::inflated_size::{InflateError, InflatedSizeMeter};
use crate::limit_kind::LimitKind;
use crate::protocol_error::ProtocolError;

impl FrameMeter {
    /// Starts a frame of a compressed message, like [`FrameMeter::begin_data_frame`], and measures
    /// the part of its payload in `rest`. On `Err` the position is unchanged.
    #[cold]
    pub(super) fn begin_compressed_frame(
        &mut self,
        header: &Header,
        rest: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        let before = self.position;
        self.begin_data_frame(header, context)?;
        if self.position.compressed
            && let Some(max) = context.inflated_max
        {
            self.start_inspection(header, max, context.context_takeover);
        }
        let result = self.inspect(rest.get(header.len..).unwrap_or_default(), context);
        if result.is_err() {
            self.position = before;
        }
        result
    }

    /// Starts measuring. Without context takeover, an unfragmented message that is too short to
    /// exceed `max` is not measured; otherwise it may affect the size of later messages.
    fn start_inspection(&mut self, header: &Header, max: u64, context_takeover: bool) {
        if header.compressed {
            let needed = context_takeover
                || !header.fin
                || InflatedSizeMeter::can_exceed(header.payload_len, max);
            let context = context_takeover.then_some(self.deflate_context);
            self.add_work(WORK_PER_MESSAGE);
            self.inspector = needed
                .then(|| Box::new(Inspector::Size(Box::new(InflatedSizeMeter::new(max, context)))));
        }
        if let Some(Inspector::Size(meter)) = self.inspector.as_deref_mut() {
            meter.begin_frame(header.key_len);
        }
    }

    /// Measures the available bytes of the frame in progress if its message is being measured. On
    /// `Err` nothing has changed.
    #[inline]
    pub(super) fn inspect(
        &mut self,
        available: &[u8],
        context: &MeterContext<'_>,
    ) -> Result<(), FrameStep> {
        if !self.measures_size() || context.inflated_max.is_none() || self.position.outside {
            return Ok(());
        }
        self.measure(available, context)
    }

    #[cold]
    fn measure(&mut self, available: &[u8], context: &MeterContext<'_>) -> Result<(), FrameStep> {
        let taken = self.frame_bytes(available.len());
        let Some(Inspector::Size(meter)) = self.inspector.as_deref_mut() else {
            return Ok(());
        };
        let complete = taken as u64 == self.position.remaining && self.position.fin;
        let measured = meter.add(available.get(..taken).unwrap_or_default(), complete);
        let (work, left, size) = (meter.take_work(), meter.context(), meter.size());
        self.add_work(work);
        let result = match measured {
            Ok(()) => Ok(()),
            Err(InflateError::Invalid) => self.protocol_error(ProtocolError::Inflate, context),
            Err(InflateError::TooLarge) => {
                let limit = context.limits.message;
                if let Some(limit) = limit {
                    self.keep_size(LimitKind::Inflated, size, limit.action);
                }
                self.limit_exceeded(LimitKind::Inflated, limit.map(|limit| limit.action))
            }
        };
        // Kept on an error, so that a retry of the same frame returns it again.
        if result.is_ok() && complete {
            self.deflate_context = left;
            self.inspector = None;
        }
        result
    }
}

/// CPU cost of a new [`InflatedSizeMeter`] and of its tables, in bytes copied.
const WORK_PER_MESSAGE: u32 = 256;
