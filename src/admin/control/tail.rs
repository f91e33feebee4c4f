//! The headers of one tunnel's frames, as they pass.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use ws::{FrameInfo, FrameTrace, OpCode};

use super::choose::one;
use crate::admin::control::ResponseWriter;
use crate::protocol::answer::{CommandError, FrameEvent};
use crate::proxy::state::ProxyState;
use crate::sys::clock::wall;

/// Tells of frames until the tunnel ends, another tail takes over, or nobody reads any more.
pub(super) async fn tail(
    gate: &ProxyState,
    session: u64,
    reply: &mut ResponseWriter,
) -> Result<(), CommandError> {
    let line = one(gate, session)?;
    let (sender, mut seen) = mpsc::channel(WAITING_MAX);
    let mut missed = 0;
    line.watch(FrameTrace::new(move |frame| {
        match sender.try_send(shown(frame, missed)) {
            Ok(()) => missed = 0,
            // The tunnel waits for nobody who looks at it.
            Err(TrySendError::Full(_)) => missed += 1,
            Err(TrySendError::Closed(_)) => return false,
        }
        true
    }));
    drop(line);
    loop {
        let next = reply.unless_gone(seen.recv()).await;
        match next {
            Some(Some(frame)) if reply.ok(&frame).await => {}
            Some(_) | None => return Ok(()),
        }
    }
}

fn shown(seen: FrameInfo, missed: u64) -> FrameEvent {
    FrameEvent {
        at: wall(),
        from: seen.from.as_str().to_owned(),
        own: seen.injected,
        opcode: seen.opcode.map_or("unknown", name).to_owned(),
        fin: seen.fin,
        compressed: seen.compressed,
        length: seen.payload,
        code: seen.code,
        missed,
    }
}

fn name(opcode: OpCode) -> &'static str {
    match opcode {
        OpCode::Continuation => "continuation",
        OpCode::Text => "text",
        OpCode::Binary => "binary",
        OpCode::Close => "close",
        OpCode::Ping => "ping",
        OpCode::Pong => "pong",
    }
}

/// Frames that may wait for whoever reads.
const WAITING_MAX: usize = 1024;
