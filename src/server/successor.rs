//! The successor's half of a handover. Both processes exchange three messages over the
//! [`HandoverChannel`]: the successor sends [`READY`] once its configuration is valid and its
//! sockets are open, the predecessor answers [`GO`] when it stops accepting, and the successor
//! confirms with [`SERVING`].

use std::io;
use std::time::Duration;

use crate::listener::handover_channel::HandoverChannel;

/// Sent by a successor that could serve.
pub const READY: &str = "ready";
/// Sent by the predecessor: serve from now on.
pub const GO: &str = "go";
/// Sent by the successor once it serves.
pub const SERVING: &str = "serving";
/// Time limit for the answer to a message that the other process is waiting for.
pub const GO_MAX: Duration = Duration::from_secs(10);

/// Announces that this process is ready, waits for the predecessor's permission, and confirms it.
/// Blocks for at most [`GO_MAX`].
///
/// # Errors
/// The predecessor has gone, did not answer in time, or answered something else.
pub fn take_over(predecessor: &HandoverChannel) -> io::Result<()> {
    predecessor.send(READY, None)?;
    predecessor.expect(GO, GO_MAX)?;
    predecessor.send(SERVING, None)
}
