//! Limits on the heads of requests and responses.

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum size in bytes, [`Self::BYTES_MIN`] to [`Self::BYTES_MAX`].
    pub bytes: usize,
    /// Maximum number of header fields.
    pub fields: usize,
}

impl HeadLimits {
    /// The smallest limit: hyper's buffers are not smaller.
    pub const BYTES_MIN: usize = 8 * 1024;
    /// The largest limit: hyper accepts no longer request target (65,534 bytes).
    pub const BYTES_MAX: usize = 64 * 1024;
    /// The largest limit of fields. hyper allocates the space for that many before it parses a head.
    pub const FIELDS_MAX: usize = 1000;

    /// Maximum length of a request target: half a head. A target may be long without a cookie or token in
    /// the fields, and the other way round.
    pub const fn target_bytes(self) -> usize {
        self.bytes / 2
    }
}

/// A token of 8 KiB as a subprotocol next to cookies of the same size passes. hyper is fastest with 100
/// fields, for which it needs no allocation.
impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024, fields: 100 }
    }
}
