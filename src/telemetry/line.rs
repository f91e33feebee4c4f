//! One line in the making: a JSON object, or `key=value` with quotes where they are needed. Keys
//! stand in the order in which they were said; what is absent leaves no key.

use std::fmt::{Arguments, Display};
use std::io::Write;
use std::time::Duration;

use crate::config::settings::LogFormat;

/// Text, numbers and lists under their keys.
#[derive(Debug)]
pub struct LogLine {
    format: LogFormat,
    bytes: Vec<u8>,
}

impl LogLine {
    /// Nothing said yet.
    pub fn begin(format: LogFormat) -> Self {
        Self { format, bytes: Vec::with_capacity(ORDINARY) }
    }

    /// Text from wherever; it is quoted and escaped here, but neither cut nor redacted.
    pub fn text<'t>(&mut self, key: &str, value: impl Into<Option<&'t str>>) {
        if let Some(value) = value.into() {
            self.key(key);
            self.string(value);
        }
    }

    /// What shows itself in text.
    pub fn show(&mut self, key: &str, value: impl Display) {
        self.text(key, &*value.to_string());
    }

    /// A whole number.
    pub fn number(&mut self, key: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.key(key);
            self.plain(format_args!("{value}"));
        }
    }

    /// A span in milliseconds, to the microsecond.
    pub fn millis(&mut self, key: &str, value: impl Into<Option<Duration>>) {
        if let Some(value) = value.into() {
            let micros = value.as_micros();
            self.key(key);
            self.plain(format_args!("{}.{:03}", micros / 1000, micros % 1000));
        }
    }

    /// Names; left out where there is none. In text they are joined by commas.
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

    /// The whole line, with its end.
    pub fn end(mut self) -> Vec<u8> {
        match self.format {
            LogFormat::Text => self.bytes.push(b'\n'),
            LogFormat::Json if self.bytes.is_empty() => self.bytes.extend(b"{}\n"),
            LogFormat::Json => self.bytes.extend(b"}\n"),
        }
        self.bytes
    }

    /// Keys are ours: lower-case letters and underscores.
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
            // A vector takes everything.
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

    fn plain(&mut self, words: Arguments<'_>) {
        // A vector takes everything.
        let _ = self.bytes.write_fmt(words);
    }
}

/// Whether a value is its own end, without quotes.
fn is_bare(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// Bytes; longer lines grow.
const ORDINARY: usize = 768;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(format: LogFormat) -> String {
        let mut line = LogLine::begin(format);
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
        String::from_utf8(line.end()).unwrap()
    }

    #[test]
    fn text_is_quoted_only_where_it_must_be() {
        let expected = "event=ended client=203.0.113.9:5 target=\"/ws?a=\\\"b\\\\\" empty=\"\" \
                        up_bytes=8 rtt_ms=12.034 would_close=message_too_big,ws_rsv\n";
        assert_eq!(whole(LogFormat::Text), expected);
    }

    #[test]
    fn json_is_one_object_in_the_order_of_its_making() {
        let expected = r#"{"event":"ended","client":"203.0.113.9:5","target":"/ws?a=\"b\\","empty":"","up_bytes":8,"rtt_ms":12.034,"would_close":["message_too_big","ws_rsv"]}"#;
        assert_eq!(whole(LogFormat::Json), format!("{expected}\n"));
        assert_eq!(LogLine::begin(LogFormat::Json).end(), b"{}\n");
    }

    /// Records cut client-supplied text to printable ASCII first; this is the net below.
    #[test]
    fn no_line_is_broken_by_what_stands_in_it() {
        for hostile in ["a\nb", "\u{1b}[31m", "\r\0", "\u{9b}31m", "\" x=1", "\\"] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let mut line = LogLine::begin(format);
                line.text("a", hostile);
                line.list("b", [hostile]);
                let line = String::from_utf8(line.end()).unwrap();
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
