//! Formats log messages as lines: `time`, `level` and `message`, as in records, then the fields of the
//! message.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::LogLine;
use super::timestamp::LogTime;
use crate::config::settings::LogFormat;

/// Passes each log message as a complete line to `send`.
#[derive(Clone, Debug)]
pub(super) struct LogLayer<F> {
    pub(super) format: LogFormat,
    pub(super) send: F,
}

impl<S: Subscriber, F: Fn(Vec<u8>) + 'static> Layer<S> for LogLayer<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = log_line(self.format, LogTime::now(), event.metadata().level().as_str());
        // The macros of tracing put the message before the other fields.
        event.record(&mut EventFields(&mut line));
        (self.send)(line.finish());
    }
}

/// A line with the fields that every log message starts with.
pub(super) fn log_line(format: LogFormat, now: LogTime, level: &str) -> LogLine {
    let mut line = LogLine::new(format);
    line.bare("time", |bytes| now.write_to(bytes));
    line.text("level", level);
    line
}

struct EventFields<'l>(&'l mut LogLine);

impl Visit for EventFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.literal(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.literal(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.show(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The logged lines, without their times.
    fn logged(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let (lines, logged) = sync_channel(64);
        let layer = LogLayer { format, send: move |line| lines.send(line).unwrap() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let line = |line| {
            let line = String::from_utf8(line).unwrap();
            let (time, rest) = line.split_at(line.find("level").unwrap());
            assert!(time.contains('Z') && time.contains("time"), "{time}");
            rest.to_owned()
        };
        logged.try_iter().map(line).collect()
    }

    #[test]
    fn message_precedes_fields_in_both_formats() {
        let path = std::path::Path::new("a b");
        let log = || {
            warn!(path = %path.display(), lost = 7, "lines lost");
            info!(ok = true, offset = -1_i64, error = ?Some("x"), absent = None::<u64>, "cause: {}", 2);
        };
        assert_eq!(
            logged(LogFormat::Text, log),
            [
                "level=WARN message=\"lines lost\" path=\"a b\" lost=7\n",
                "level=INFO message=\"cause: 2\" ok=true offset=-1 error=\"Some(\\\"x\\\")\"\n",
            ]
        );
        assert_eq!(
            logged(LogFormat::Json, log),
            [
                "level\":\"WARN\",\"message\":\"lines lost\",\"path\":\"a b\",\"lost\":7}\n",
                "level\":\"INFO\",\"message\":\"cause: 2\",\"ok\":true,\"offset\":-1,\
                 \"error\":\"Some(\\\"x\\\")\"}\n",
            ]
        );
    }
}
