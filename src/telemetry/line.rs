//! Builds one line: a JSON object, or `key=value` pairs with quotes where they are needed. Keys
//! appear in the order of the calls; an absent value writes no key.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use crate::client::ascii::{push_decimal, push_digits};
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
        Self::in_buffer(format, Vec::with_capacity(TYPICAL_BYTES))
    }

    /// An empty line in the memory of an earlier one.
    pub fn in_buffer(format: LogFormat, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { format, bytes: buffer }
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

    /// Writes a text that is never empty and consists of visible ASCII other than `"`, `\` and `=`, such as an
    /// address. `write` appends it.
    pub fn bare(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        if self.is_text() {
            write(&mut self.bytes);
        } else {
            self.bytes.push(b'"');
            write(&mut self.bytes);
            self.bytes.push(b'"');
        }
    }

    /// Writes the `Display` form of a value as text.
    pub fn show(&mut self, key: &str, value: impl Display) {
        self.text(key, &*value.to_string());
    }

    /// Writes an integer; `None` writes nothing.
    pub fn number(&mut self, key: &str, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.key(key);
            push_decimal(&mut self.bytes, value);
        }
    }

    /// Writes a number or a boolean, whose `Display` form is valid JSON.
    pub fn literal(&mut self, key: &str, value: impl Display) {
        self.key(key);
        // Writing to a vector cannot fail.
        let _ = write!(self.bytes, "{value}");
    }

    /// Writes a duration in milliseconds with three decimals; `None` writes nothing.
    pub fn millis(&mut self, key: &str, value: impl Into<Option<Duration>>) {
        if let Some(value) = value.into() {
            let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
            self.key(key);
            push_decimal(&mut self.bytes, micros / 1000);
            self.bytes.push(b'.');
            push_digits::<3>(&mut self.bytes, micros % 1000);
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
        let (is_first, bytes) = (self.bytes.is_empty(), &mut self.bytes);
        bytes.reserve(key.len() + KEY_SIGNS_MAX);
        match (self.format, is_first) {
            (LogFormat::Text, true) => {}
            (LogFormat::Text, false) => bytes.push(b' '),
            (LogFormat::Json, true) => bytes.extend(*b"{\""),
            (LogFormat::Json, false) => bytes.extend(*b",\""),
        }
        bytes.extend_from_slice(key.as_bytes());
        match self.format {
            LogFormat::Text => bytes.push(b'='),
            LogFormat::Json => bytes.extend(*b"\":"),
        }
    }

    fn string(&mut self, value: &str) {
        let (is_verbatim, needs_quotes) = signs(value);
        if is_verbatim && self.is_text() && !needs_quotes {
            self.bytes.extend_from_slice(value.as_bytes());
        } else if is_verbatim {
            self.bytes.reserve(value.len() + 2);
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(value.as_bytes());
            self.bytes.push(b'"');
        } else if self.is_text() {
            self.quoted(value);
        } else {
            // Writing to a vector cannot fail.
            drop(serde_json::to_writer(&mut self.bytes, value));
        }
    }

    /// Writes a text with escapes.
    fn quoted(&mut self, value: &str) {
        let mut quoted = String::with_capacity(value.len() + 8);
        for letter in value.chars() {
            match letter {
                '"' | '\\' => quoted.extend(['\\', letter]),
                letter if letter.is_control() => quoted.extend(letter.escape_unicode()),
                letter => quoted.push(letter),
            }
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(quoted.as_bytes());
        self.bytes.push(b'"');
    }
}

/// Whether a text is written as it is ([`is_verbatim`]), and whether it needs quotes in a line of text.
fn signs(text: &str) -> (bool, bool) {
    if text.len() > SHORT_BYTES {
        let needs_quotes = text.bytes().any(|byte| matches!(byte, b' ' | b'='));
        return (is_verbatim(text), needs_quotes);
    }
    // Most are too short for vector instructions.
    let signs = text.bytes().fold(0, |signs, byte| signs | SIGNS[usize::from(byte)]);
    (signs & ESCAPED == 0, signs & QUOTED != 0 || text.is_empty())
}

/// Whether a text consists of ASCII that is written as it is, in both formats.
pub fn is_verbatim(text: &str) -> bool {
    // Without a branch for each byte, the compiler uses vector instructions.
    text.bytes().fold(true, |all, byte| all & is_plain(byte))
}

const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte <= b'~' && byte != b'"' && byte != b'\\'
}

/// What each byte requires of a text that contains it.
static SIGNS: [u8; 256] = {
    let (mut signs, mut byte) = ([0; 256], u8::MIN);
    loop {
        signs[byte as usize] = match byte {
            b' ' | b'=' => QUOTED,
            _ if is_plain(byte) => 0,
            _ => ESCAPED,
        };
        if byte == u8::MAX {
            break signs;
        }
        byte += 1;
    }
};
const ESCAPED: u8 = 1;
const QUOTED: u8 = 2;
/// Up to which a table is faster.
const SHORT_BYTES: usize = 32;

/// Bytes around a key.
const KEY_SIGNS_MAX: usize = 4;
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
