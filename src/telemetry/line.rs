//! Builds one line: a JSON object, or `key=value` pairs with quotes where they are needed. Keys
//! appear in the order of the calls; an absent value writes no key.

use std::fmt::{Arguments, Display};
use std::io::Write;
use std::time::Duration;

use crate::config::settings::LogFormat;

/// A line under construction. Keys must consist of lower-case letters and underscores.
#[derive(Debug)]
pub struct LogLine {
    format: LogFormat,
    bytes: Vec<u8>,
}

impl LogLine {
    /// An empty line in this format.
    pub fn new(format: LogFormat) -> Self {
        Self { format, bytes: Vec::with_capacity(TYPICAL_BYTES) }
    }

    /// Whether the line is text, which people read, and not JSON.
    pub fn is_text(&self) -> bool {
        self.format == LogFormat::Text
    }

    /// Writes a text, quoted and escaped; the caller must redact and truncate it. `None` writes
    /// nothing.
    pub fn text<'t>(&mut self, key: &str, value: impl Into<Option<&'t str>>) {
        if let Some(value) = value.into() {
            self.key(key);
            self.string(value);
        }
    }

    /// Writes the `Display` form of a value as text.
    pub fn show(&mut self, key: &str, value: impl Display) {
        self.text(key, &*value.to_string());
    }

    /// Writes an integer; `None` writes nothing.
    pub fn number(&mut self, key: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.literal(key, value);
        }
    }

    /// Writes a number or a boolean, whose `Display` form is valid JSON.
    pub fn literal(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.plain(format_args!("{value}"));
    }

    /// Writes a duration in milliseconds with three decimals; `None` writes nothing.
    pub fn millis(&mut self, key: &str, value: impl Into<Option<Duration>>) {
        if let Some(value) = value.into() {
            let micros = value.as_micros();
            self.key(key);
            self.plain(format_args!("{}.{:03}", micros / 1000, micros % 1000));
        }
    }

    /// Writes a list: a JSON array, or joined by commas in text. An empty list writes nothing.
    pub fn list<'t>(&mut self, key: &str, values: impl IntoIterator<Item = &'t str>) {
        let values: Vec<&str> = values.into_iter().collect();
        if values.is_empty() {
            return;
        }
        self.key(key);
        match self.format {
            LogFormat::Text => self.string(&values.join(",")),
            LogFormat::Json => {
                for (index, value) in values.into_iter().enumerate() {
                    self.bytes.push(if index == 0 { b'[' } else { b',' });
                    self.string(value);
                }
                self.bytes.push(b']');
            }
        }
    }

    /// The complete line, including the line break.
    pub fn finish(mut self) -> Vec<u8> {
        match self.format {
            LogFormat::Text => self.bytes.push(b'\n'),
            LogFormat::Json if self.bytes.is_empty() => self.bytes.extend(b"{}\n"),
            LogFormat::Json => self.bytes.extend(b"}\n"),
        }
        self.bytes
    }

    fn key(&mut self, key: &str) {
        let first = self.bytes.is_empty();
        match self.format {
            LogFormat::Text => {
                self.plain(format_args!("{}{key}=", if first { "" } else { " " }));
            }
            LogFormat::Json => {
                self.plain(format_args!("{}\"{key}\":", if first { "{" } else { "," }));
            }
        }
    }

    fn string(&mut self, value: &str) {
        match self.format {
            // Writing to a vector cannot fail.
            LogFormat::Json => drop(serde_json::to_writer(&mut self.bytes, value)),
            LogFormat::Text if is_bare(value) => self.bytes.extend(value.as_bytes()),
            LogFormat::Text => {
                let mut quoted = String::with_capacity(value.len() + 8);
                for letter in value.chars() {
                    match letter {
                        '"' | '\\' => quoted.extend(['\\', letter]),
                        letter if letter.is_control() => quoted.extend(letter.escape_unicode()),
                        letter => quoted.push(letter),
                    }
                }
                self.plain(format_args!("\"{quoted}\""));
            }
        }
    }

    fn plain(&mut self, text: Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.bytes.write_fmt(text);
    }
}

/// Whether a value needs no quotes in text.
fn is_bare(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// Initial capacity; enough for a typical record.
const TYPICAL_BYTES: usize = 768;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(format: LogFormat) -> String {
        let mut line = LogLine::new(format);
        line.text("event", "ended");
        line.text("absent", None);
        line.show("client", std::net::SocketAddr::from(([203, 0, 113, 9], 5)));
        line.text("target", "/ws?a=\"b\\");
        line.text("empty", "");
        line.number("up_bytes", 8);
        line.number("close", None);
        line.millis("rtt_ms", Duration::from_micros(12_034));
        line.millis("late_ms", None);
        line.list("would_close", ["message_too_big", "ws_rsv"]);
        line.list("nothing", []);
        String::from_utf8(line.finish()).unwrap()
    }

    #[test]
    fn text_is_quoted_only_where_needed() {
        let expected = "event=ended client=203.0.113.9:5 target=\"/ws?a=\\\"b\\\\\" empty=\"\" \
                        up_bytes=8 rtt_ms=12.034 would_close=message_too_big,ws_rsv\n";
        assert_eq!(whole(LogFormat::Text), expected);
    }

    #[test]
    fn json_is_one_object_in_call_order() {
        let expected = r#"{"event":"ended","client":"203.0.113.9:5","target":"/ws?a=\"b\\","empty":"","up_bytes":8,"rtt_ms":12.034,"would_close":["message_too_big","ws_rsv"]}"#;
        assert_eq!(whole(LogFormat::Json), format!("{expected}\n"));
        assert_eq!(LogLine::new(LogFormat::Json).finish(), b"{}\n");
    }

    /// Records reduce client-supplied text to printable ASCII before; this is a second defence.
    #[test]
    fn hostile_values_do_not_break_the_line() {
        for hostile in ["a\nb", "\u{1b}[31m", "\r\0", "\u{9b}31m", "\" x=1", "\\"] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let mut line = LogLine::new(format);
                line.text("a", hostile);
                line.list("b", [hostile]);
                let line = String::from_utf8(line.finish()).unwrap();
                let (line, rest) = line.split_once('\n').unwrap();
                assert_eq!(rest, "");
                match format {
                    LogFormat::Text => assert!(!line.contains(char::is_control), "{line:?}"),
                    LogFormat::Json => {
                        let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
                        assert_eq!(
                            (&parsed["a"], &parsed["b"][0]),
                            (&hostile.into(), &hostile.into())
                        );
                    }
                }
            }
        }
    }
}
