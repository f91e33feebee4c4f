//! Streams the frame headers of one tunnel.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use ws::{FrameInfo, FrameTrace, OpCode};

use super::response_writer::ResponseWriter;
use super::selection::find;
use crate::control_protocol::response::{CommandError, FrameEvent};
use crate::proxy::state::ProxyState;
use crate::sys::clock::wall;

/// Streams frame headers until the tunnel ends, another `tail` replaces this one, or the client of
/// the control socket disconnects.
pub(super) async fn tail(
    state: &ProxyState,
    session: u64,
    reply: &mut ResponseWriter,
) -> Result<(), CommandError> {
    let session = find(state, session)?;
    let (sender, mut events) = mpsc::channel(QUEUE_MAX);
    let mut skipped = 0;
    session.trace(FrameTrace::new(move |frame| {
        match sender.try_send(frame_event(frame, skipped)) {
            Ok(()) => skipped = 0,
            // Frames are skipped rather than slowing the tunnel down.
            Err(TrySendError::Full(_)) => skipped += 1,
            Err(TrySendError::Closed(_)) => return false,
        }
        true
    }));
    drop(session);
    loop {
        match reply.unless_disconnected(events.recv()).await {
            Some(Some(event)) if reply.ok(&event).await => {}
            Some(_) | None => return Ok(()),
        }
    }
}

fn frame_event(frame: FrameInfo, skipped: u64) -> FrameEvent {
    FrameEvent {
        at: wall(),
        from: frame.from.as_str().to_owned(),
        injected: frame.injected,
        opcode: frame.opcode.map_or("unknown", opcode_name).to_owned(),
        fin: frame.fin,
        compressed: frame.compressed,
        length: frame.payload,
        code: frame.code,
        skipped,
    }
}

fn opcode_name(opcode: OpCode) -> &'static str {
    match opcode {
        OpCode::Continuation => "continuation",
        OpCode::Text => "text",
        OpCode::Binary => "binary",
        OpCode::Close => "close",
        OpCode::Ping => "ping",
        OpCode::Pong => "pong",
    }
}

/// Frames queued for a slow reader.
const QUEUE_MAX: usize = 1024;
