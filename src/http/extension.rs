//! `Sec-WebSocket-Extensions` (RFC 6455 9.1): a list of extension names with parameters.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::SEC_WEBSOCKET_EXTENSIONS;

use super::fields::is_token;

/// An extension that a client offers or a server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The extension's name in lower case.
    pub name: String,
    /// Parameter names in lower case, each with its unquoted value if it has one.
    pub params: Vec<(String, Option<String>)>,
}

impl Extension {
    /// Reads all header lines as one list (RFC 6455 11.3.2), in order.
    ///
    /// # Errors
    /// Malformed text, or more than 16 members or parameters of one.
    pub fn read_all(headers: &HeaderMap) -> Result<Vec<Self>, &'static str> {
        let mut extensions = Vec::new();
        for line in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            let mut reader = ExtensionParser { rest: line.as_bytes() };
            loop {
                // RFC 9110 5.6.1.2: empty members are ignored, and so are lines without a member.
                while reader.take(b',') {}
                if reader.rest.is_empty() {
                    break;
                }
                if extensions.len() == EXTENSIONS_MAX {
                    return Err("Sec-WebSocket-Extensions has too many members");
                }
                extensions.push(reader.extension().ok_or(MALFORMED)?);
                if !reader.rest.is_empty() && !reader.take(b',') {
                    return Err(MALFORMED);
                }
            }
        }
        Ok(extensions)
    }

    /// Whether this is `permessage-deflate` (RFC 7692).
    pub fn is_deflate(&self) -> bool {
        self.name == "permessage-deflate"
    }

    /// Looks up a parameter by its lower-case name; `Some(None)` if it has no value.
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        let found = self.params.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_deref())
    }
}

/// Formats the extension as a list member of the header field.
impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (name, value) in &self.params {
            write!(f, "; {name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

/// The unread rest of a header line, without leading whitespace after the first token.
struct ExtensionParser<'l> {
    rest: &'l [u8],
}

impl<'l> ExtensionParser<'l> {
    /// `extension = extension-token *( ";" extension-param )`
    fn extension(&mut self) -> Option<Extension> {
        let name = self.token()?.to_ascii_lowercase();
        let mut params = Vec::new();
        while self.take(b';') {
            if params.len() == PARAMS_MAX {
                return None;
            }
            let name = self.token()?.to_ascii_lowercase();
            let value = if self.take(b'=') { Some(self.value()?) } else { None };
            params.push((name, value));
        }
        Some(Extension { name, params })
    }

    /// A token, or a quoted string that holds one once it is unquoted (RFC 6455 9.1).
    fn value(&mut self) -> Option<String> {
        let Some(mut rest) = self.rest.strip_prefix(b"\"") else {
            return self.token().map(str::to_owned);
        };
        let mut value = Vec::new();
        loop {
            match rest {
                [b'"', after @ ..] => {
                    self.rest = after.trim_ascii_start();
                    break;
                }
                [b'\\', escaped, after @ ..] => {
                    value.push(*escaped);
                    rest = after;
                }
                [byte, after @ ..] => {
                    value.push(*byte);
                    rest = after;
                }
                [] => return None,
            }
        }
        is_token(&value).then(|| String::from_utf8(value).ok()).flatten()
    }

    fn token(&mut self) -> Option<&'l str> {
        let end = self.rest.iter().position(|byte| !is_token(&[*byte]));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_ascii_start();
        std::str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// Consumes the separator and the whitespace around it, if it comes next.
    fn take(&mut self, separator: u8) -> bool {
        match self.rest.trim_ascii_start().split_first() {
            Some((first, rest)) if *first == separator => {
                self.rest = rest.trim_ascii_start();
                true
            }
            Some(_) | None => false,
        }
    }
}

const MALFORMED: &str = "Sec-WebSocket-Extensions is malformed";

/// Maximum members. Browsers offer one, libraries at most four.
const EXTENSIONS_MAX: usize = 16;

/// Maximum number of parameters of one. Those of `permessage-deflate` are four.
const PARAMS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Vec<Extension>, &'static str> {
        let name = SEC_WEBSOCKET_EXTENSIONS;
        let lines = lines.iter().map(|line| (name.clone(), line.parse().unwrap()));
        Extension::read_all(&lines.collect())
    }

    // Requirements: W11.
    #[test]
    fn extension_lines_form_one_ordered_list() {
        let all = read(&[
            "permessage-deflate; client_max_window_bits, x-Foo ;a=1;b=\"t\\wo\" ",
            ",permessage-deflate;server_max_window_bits = 10",
        ])
        .unwrap();
        let names: Vec<&str> = all.iter().map(|extension| extension.name.as_str()).collect();
        assert_eq!(names, ["permessage-deflate", "x-foo", "permessage-deflate"]);
        assert_eq!(all[0].param("client_max_window_bits"), Some(None));
        assert_eq!(all[1].param("b"), Some(Some("two")));
        assert_eq!(all[2].param("server_max_window_bits"), Some(Some("10")));
        assert_eq!(all[2].param("other"), None);
        assert!(all[0].is_deflate() && !all[1].is_deflate());
    }

    // Requirements: UH24.
    #[test]
    fn rejects_malformed_extension_lists() {
        for line in [
            ";",
            ",;",
            "a;",
            "a;;b",
            "a b",
            "a;b=",
            "a;=1",
            "a=1",
            "a;b=\"",
            "a;b=\"c",
            "a;b=\"c d\"",
            "a;b=\"\"",
            "a;b=\"c\"d",
            "a/b",
            "\"a\"",
            "a;b=c=d",
            "a;b\\",
        ] {
            assert_eq!(read(&[line]), Err(MALFORMED), "{line:?}");
        }
    }

    // Requirements: UH23.
    #[test]
    fn empty_members_and_lines_are_ignored() {
        for lines in [&[][..], &[""], &[","], &[" , ,"], &["", ","]] {
            assert_eq!(read(lines), Ok(Vec::new()), "{lines:?}");
        }
        for lines in [&["a,, b,"][..], &["", "a", ",b"], &[", a ,\t, b ,"]] {
            let names: Vec<String> = read(lines).unwrap().into_iter().map(|e| e.name).collect();
            assert_eq!(names, ["a", "b"], "{lines:?}");
        }
    }

    // Requirements: UH25.
    #[test]
    fn rejects_more_than_sixteen_offers() {
        assert_eq!(read(&[&"a,".repeat(16)]).unwrap().len(), 16);
        assert!(read(&[&"a,".repeat(17)]).is_err());
        assert!(read(&[&"a,".repeat(1000)]).is_err());
    }

    // Requirements: UH26.
    #[test]
    fn unusual_window_bits_are_only_parsed() {
        for bits in ["7", "16", "abc", "99999999999999999999"] {
            let line = format!("permessage-deflate; server_max_window_bits={bits}");
            let all = read(&[&line]).unwrap();
            assert_eq!(all[0].param("server_max_window_bits"), Some(Some(bits)));
        }
    }
}
