//! What was relayed, and which Closes went out: the figures of a session's record.

/// What was relayed. Frames of our own do not count, nor those that were swallowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From the client to the backend.
    pub up: Flow,
    /// From the backend to the client.
    pub down: Flow,
}

/// What was relayed in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bytes of frames, their headers among them.
    pub bytes: u64,
    /// Whole messages.
    pub messages: u64,
}

/// The codes of the Closes that went out, relayed or our own; 1005 for one without a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closes {
    /// To the client.
    pub to_client: Option<u16>,
    /// To the backend.
    pub to_backend: Option<u16>,
}
