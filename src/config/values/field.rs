//! Header fields that an operator sets or removes. Those that frame a message, that belong to the
//! handshake, or by which tidegate says who asked, are not his to change.

use hyper::header::{HeaderName, HeaderValue};
use toml::de::{DeTable, DeValue};

use super::scalars::text;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::reader::TomlValue;

/// The name of a field that is to be taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderFieldName(pub(crate) HeaderName);

impl TomlValue for HeaderFieldName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the name of a header field")?;
        if let Some((name, _)) = text.split_once(':') {
            let wrong = Problem::new("to remove a field its name is enough");
            return Err(wrong.help(format!("write \"{}\"", name.trim())));
        }
        let name = field_name(text)?;
        // Whoever likes may hide the number of a request; nobody may choose it.
        let protected = protected(&name).filter(|_| name.as_str() != REQUEST_ID);
        protected.map_or(Ok(Self(name)), Err)
    }
}

/// A field that is to be set, as in `"X-Env: prod"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderField {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

impl TomlValue for HeaderField {
    fn listed(table: &DeTable<'_>) -> Option<String> {
        let fields: Vec<String> = table
            .iter()
            .map(|(name, value)| {
                Some(format!("\"{}: {}\"", name.get_ref(), value.get_ref().as_str()?))
            })
            .collect::<Option<_>>()?;
        Some(format!("[{}]", fields.join(", ")))
    }

    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a header field such as \"X-Env: prod\"")?;
        let Some((name, content)) = text.split_once(':') else {
            let wrong = Problem::new(format!("\"{text}\" has no colon"));
            return Err(match text.split_once(['=', ' ']) {
                Some((name, content)) if is_name(name.trim()) => {
                    wrong.help(format!("write \"{}: {}\"", name.trim(), content.trim()))
                }
                Some(_) | None => wrong.help("write name and value, as in \"X-Env: prod\""),
            });
        };
        let name = field_name(name)?;
        if let Some(wrong) = protected(&name) {
            return Err(wrong);
        }
        // RFC 9110 5.5: blanks around a value are no part of it.
        let content = content.trim_matches([' ', '\t']);
        if content.is_empty() {
            let wrong = Problem::new(format!("{name} has no value"));
            return Err(wrong.help("to take a field off, list its name in remove"));
        }
        if let Some(variable) = variable(content) {
            let wrong = Problem::new(format!("\"{variable}\" would be sent as it stands here"));
            return Err(wrong.help("there are no variables: write the value itself"));
        }
        // RFC 9110 5.5: new values are ASCII; line ends would begin a field of their own.
        let value = HeaderValue::from_str(content).ok().filter(|_| content.is_ascii());
        match value {
            Some(value) => Ok(Self { name, value }),
            None => Err(Problem::new(format!("the value of {name} is not lawful in a field"))
                .help("write printable ASCII in one line")),
        }
    }
}

fn field_name(text: &str) -> Result<HeaderName, Problem> {
    if text.is_empty() {
        return Err(Problem::new("the name of the field is empty"));
    }
    let wrong = || Problem::new(format!("\"{text}\" is not the name of a header field"));
    // RFC 9112 5.1: a blank before the colon is a fault.
    if text.trim() != text && is_name(text.trim()) {
        return Err(wrong().help(format!("write \"{}\", without blanks", text.trim())));
    }
    // A lawful letter, and never meant as one.
    if text.contains('*') {
        return Err(wrong().help("a name is written out; * does not stand for other letters"));
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong().help("write one such as \"X-Env\""))
}

/// Whether this is a token (RFC 9110 5.1).
fn is_name(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// Refuses a variable where it would be taken as it stands.
pub(crate) fn no_variable(text: &str) -> Result<(), Problem> {
    match variable(text) {
        Some(variable) => {
            let wrong = Problem::new(format!("\"{variable}\" would be taken as it stands here"));
            Err(wrong.help("there are no variables: write the value itself"))
        }
        None => Ok(()),
    }
}

/// What looks like a variable of another server: `$name`, `${name}`, `%{name}`. Within a word a
/// dollar is one, as in the hash of a password.
fn variable(text: &str) -> Option<&str> {
    let (at, _) = text.match_indices(['$', '%']).find(|(at, sign)| {
        let (before, behind) = (&text[..*at], &text[at + 1..]);
        let name = |c: char| c.is_ascii_alphabetic() || c == '_';
        behind.starts_with('{')
            || *sign == "$"
                && behind.starts_with(name)
                && !before.ends_with(|c: char| c.is_ascii_alphanumeric())
    })?;
    let found = &text[at..];
    let rest = |c: char| !(c.is_ascii_alphanumeric() || "$%{}_".contains(c));
    Some(&found[..found.find(rest).unwrap_or(found.len())])
}

/// Why a field is not to be changed, if it is not.
fn protected(name: &HeaderName) -> Option<Problem> {
    // Many applications take X_Forwarded_For for X-Forwarded-For.
    let plain = name.as_str().replace('_', "-");
    let why = if HOP.contains(&plain.as_str()) || plain.starts_with("proxy-") {
        "it frames the message, or is between two neighbours only"
    } else if plain.starts_with("sec-websocket-") {
        "it belongs to the WebSocket handshake"
    } else if CLIENT.contains(&plain.as_str()) || plain.starts_with("x-forwarded-") {
        "by it tidegate says who asked, and by which way"
    } else if plain == REQUEST_ID {
        "tidegate gives each request its number"
    } else {
        return None;
    };
    let wrong = Problem::new(format!("{name} is not to be changed: {why}"));
    Some(match plain.as_str() {
        "forwarded" => wrong.help("to send Forwarded as well, write forwarded = true in the route"),
        _ => wrong.help("leave it out of this list"),
    })
}

/// RFC 9110 7.6.1, and what says how long a message is and for whom.
const HOP: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const CLIENT: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const REQUEST_ID: &str = "x-request-id";
