//! `ctl tail`: the headers of a tunnel's frames, as they pass.

use super::format::{bytes, count, time_of_day};
use super::output::{CommandFailure, Output, say, say_line};
use super::table::sanitize;
use crate::protocol::ControlRequest;
use crate::protocol::response::FrameEvent;

/// Follows a tunnel until it ends.
pub fn tail(output: &Output, session: u64) -> Result<(), CommandFailure> {
    let request = ControlRequest::Tail { session };
    // Frames may be hours apart.
    let mut reply = output.client.ask(&request, None)?;
    while let Some(line) = reply.next_line()? {
        let frame: FrameEvent = output.sift(&request, &line)?;
        match output.json {
            true => say_line(&line)?,
            false => say(&shown(&frame))?,
        }
    }
    Ok(())
}

/// One line for each frame, and one for those that are not there.
fn shown(frame: &FrameEvent) -> String {
    let missed = match frame.skipped {
        0 => String::new(),
        missed => format!("... {} not shown\n", count(missed, "frame")),
    };
    let mut marks = String::new();
    if !frame.fin {
        marks.push_str("  more follows");
    }
    if frame.compressed {
        marks.push_str("  compressed");
    }
    if let Some(code) = frame.code {
        marks.push_str(&format!("  {code}"));
    }
    let to = if frame.from == "client" { "backend" } else { "client" };
    let from = if frame.injected { "tidegate" } else { frame.from.as_str() };
    let way = format!("{} -> {to}", sanitize(from));
    let (time, opcode) = (time_of_day(frame.at), sanitize(&frame.opcode));
    format!("{missed}{time}  {way:<19}  {opcode:<12}  {:>7}{marks}\n", bytes(frame.length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_line() {
        let frame = FrameEvent {
            at: 45_296.5,
            from: "client".into(),
            opcode: "text".into(),
            fin: true,
            length: 2048,
            ..Default::default()
        };
        let line = "12:34:56.500  client -> backend    text           2.0KiB\n";
        assert_eq!(shown(&frame), line);
        let close = FrameEvent {
            injected: true,
            opcode: "close".into(),
            code: Some(1012),
            ..frame.clone()
        };
        assert!(shown(&close).ends_with("tidegate -> backend  close          2.0KiB  1012\n"));
        let part = FrameEvent { skipped: 3, fin: false, compressed: true, ..frame };
        let told = shown(&part);
        assert!(told.starts_with("... 3 frames not shown\n"), "{told}");
        assert!(told.ends_with("2.0KiB  more follows  compressed\n"), "{told}");
    }
}
