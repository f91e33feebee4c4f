//! The shared writer of standard error: a bounded queue and one thread, used by the log and, unless
//! they have a file of their own, by the records.

use std::io::{self, Write};
use std::sync::OnceLock;

use super::line_writer::{LineSender, LineSink, LogTarget, WriteError, write_lines};
use super::log_event::log_line;
use super::timestamp::LogTime;
use crate::config::settings::LogFormat;

/// The sender for lines to standard error; the first call starts its thread. `format` applies to
/// the reports of lost lines and counts in the first call only.
pub(super) fn stderr(format: LogFormat) -> LineSender {
    // If the thread cannot be started, every line counts as lost and the proxy keeps running.
    LINES.get_or_init(|| LineSender::start("log", LogTarget::Stderr, Stderr(format)).0).clone()
}

/// Standard error, and the format for reports of lost lines.
struct Stderr(LogFormat);

impl LineSink for Stderr {
    // PIPE_BUF: the lines of another process with the same standard error, such as the predecessor, do not
    // get between those of one write.
    const BATCH_BYTES: usize = 4096;

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        write_lines(&mut io::stderr(), lines)
    }

    fn report_lost(&mut self, lost: u64, error: Option<&io::Error>) -> io::Result<()> {
        io::stderr().write_all(&loss_report(self.0, LogTime::now(), lost, error))
    }
}

/// A log message that does not go through tracing, because there it would queue after the lines that are
/// waiting.
fn loss_report(format: LogFormat, now: LogTime, lost: u64, error: Option<&io::Error>) -> Vec<u8> {
    let mut line = log_line(format, now, "WARN");
    line.text(
        "message",
        "log: lines were lost because standard error is slow or cannot be written",
    );
    line.number("lost", lost);
    line.text("error", error.map(io::Error::to_string).as_deref());
    line.finish()
}

static LINES: OnceLock<LineSender> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_reports_use_the_log_format() {
        let now = LogTime::now();
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let json = loss_report(LogFormat::Json, now, 7, Some(&error));
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["lost"], &json["level"]), (&7.into(), &"WARN".into()));
        assert_eq!(json["error"], "no storage space");
        let text = String::from_utf8(loss_report(LogFormat::Text, now, 7, None)).unwrap();
        assert!(
            text.contains(" level=WARN message=\"log: lines were lost ")
                && text.ends_with("lost=7\n"),
            "{text}"
        );
        assert!(serde_json::from_slice::<serde_json::Value>(text.as_bytes()).is_err());
    }
}
