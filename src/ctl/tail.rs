//! `ctl tail`: prints the frame headers of a tunnel as frames are relayed.

use super::format::{bytes, count, time_of_day};
use super::output::{CommandFailure, Output, write_line, write_text};
use super::table::sanitize;
use crate::control_protocol::ControlRequest;
use crate::control_protocol::response::FrameEvent;

/// Prints one line per frame until the tunnel ends.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn tail(output: &Output, session: u64) -> Result<(), CommandFailure> {
    let request = ControlRequest::Tail { session };
    // No timeout, because frames may be hours apart.
    let mut reply = output.client.send(&request, None)?;
    while let Some(line) = reply.next_line()? {
        let frame: FrameEvent = output.parse(&request, &line)?;
        match output.json {
            true => write_line(&line)?,
            false => write_text(&format_frame(&frame))?,
        }
    }
    Ok(())
}

/// Formats a frame as one line, preceded by a line about skipped frames.
fn format_frame(frame: &FrameEvent) -> String {
    let skipped = match frame.skipped {
        0 => String::new(),
        skipped => format!("... {} skipped\n", count(skipped, "frame")),
    };
    let mut flags = String::new();
    if !frame.fin {
        flags.push_str("  fragment");
    }
    if frame.compressed {
        flags.push_str("  compressed");
    }
    if let Some(code) = frame.code {
        flags.push_str(&format!("  {code}"));
    }
    let to = if frame.from == "client" { "backend" } else { "client" };
    let from = if frame.injected { "tidegate" } else { frame.from.as_str() };
    let direction = format!("{} -> {to}", sanitize(from));
    let (time, opcode) = (time_of_day(frame.at), sanitize(&frame.opcode));
    format!("{skipped}{time}  {direction:<19}  {opcode:<12}  {:>7}{flags}\n", bytes(frame.length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_one_line() {
        let frame = FrameEvent {
            at: 45_296.5,
            from: "client".into(),
            opcode: "text".into(),
            fin: true,
            length: 2048,
            ..Default::default()
        };
        let line = "12:34:56.500  client -> backend    text           2.0KiB\n";
        assert_eq!(format_frame(&frame), line);
        let close = FrameEvent {
            injected: true,
            opcode: "close".into(),
            code: Some(1012),
            ..frame.clone()
        };
        assert!(
            format_frame(&close).ends_with("tidegate -> backend  close          2.0KiB  1012\n")
        );
        let part = FrameEvent { skipped: 3, fin: false, compressed: true, ..frame };
        let text = format_frame(&part);
        assert!(text.starts_with("... 3 frames skipped\n"), "{text}");
        assert!(text.ends_with("2.0KiB  fragment  compressed\n"), "{text}");
    }
}
