//! Frames of compressed messages, which may be looked into before they pass.

use super::FrameMeter;
use crate::cut::{FrameStep, Policy};
use crate::deflate::{InflatedSizeMeter, SizeExceeded};
use crate::header::Header;

impl FrameMeter {
    /// The same for a frame of a message that may be looked into.
    #[cold]
    pub(super) fn compressed_frame(
        &mut self,
        header: &Header,
        rest: &[u8],
        watch: &Policy<'_>,
    ) -> Result<(), FrameStep> {
        let before = self.position;
        self.open(header, watch)?;
        if self.position.compressed
            && let Some(max) = watch.inflated_max
        {
            self.look_into(header, max);
        }
        let judged = self.inspect(rest.get(header.len..).unwrap_or_default(), watch);
        if judged.is_err() {
            self.position = before;
        }
        judged
    }

    /// One that cannot be too large is left alone, where all of it is announced.
    pub(super) fn look_into(&mut self, header: &Header, max: u64) {
        if header.compressed {
            let needed = !header.fin || InflatedSizeMeter::is_needed(header.payload_len, max);
            self.inspector = needed.then(|| Box::new(InflatedSizeMeter::new(max)));
        }
        if let Some(inspector) = &mut self.inspector {
            inspector.begin_frame(header.key_len);
        }
    }

    /// Looks into what comes of the frame in progress, if anybody does; on `Err` nothing has
    /// changed.
    #[inline]
    pub(super) fn inspect(
        &mut self,
        available: &[u8],
        watch: &Policy<'_>,
    ) -> Result<(), FrameStep> {
        if self.inspector.is_none() || watch.inflated_max.is_none() || self.position.stray {
            return Ok(());
        }
        self.follow(available, watch)
    }

    #[cold]
    pub(super) fn follow(&mut self, available: &[u8], watch: &Policy<'_>) -> Result<(), FrameStep> {
        let taken = self.share(available.len());
        let Some(mut inspector) = self.inspector.take() else {
            return Ok(());
        };
        let whole = taken as u64 == self.position.remaining && self.position.fin;
        let followed = inspector.follow(available.get(..taken).unwrap_or_default(), whole);
        self.work = self.work.saturating_add(inspector.take_work());
        let judged = match followed {
            Ok(()) => Ok(()),
            Err(SizeExceeded::Breach(breach)) => self.offend(breach, watch),
            Err(SizeExceeded::Over(rule)) => self.over(rule, rule.action(watch.limits)),
        };
        // Asked again about the same frame, it says the same again.
        if judged.is_err() || !whole {
            self.inspector = Some(inspector);
        }
        judged
    }
}
