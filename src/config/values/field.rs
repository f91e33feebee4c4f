//! Header fields that a route sets or removes. Fields that control message framing, belong to the
//! WebSocket handshake or identify the client cannot be changed.

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use toml::de::DeValue;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;
use crate::config::toml::variables::{find_variable, variable};
use crate::http::fields::is_token;
use crate::http::proxy_fields::is_proxy_field;

/// The name of a field to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderFieldName(pub(crate) HeaderName);

impl TomlValue for HeaderFieldName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "the name of a header field")?;
        if let Some((name, _)) = text.split_once(':') {
            let problem = Problem::new("only the name is needed to remove a field");
            return Err(problem.help(format!("write \"{}\"", name.trim())));
        }
        let name = field_name(text, "X-Env")?;
        // The request id may be removed, but not set.
        let protected = protected(&name).filter(|_| name.as_str() != REQUEST_ID);
        protected.map_or(Ok(Self(name)), Err)
    }
}

/// The name of a field with an underscore that is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnderscoreName(pub(crate) HeaderName);

impl TomlValue for UnderscoreName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let name = field_name(text(value, "the name of a header field")?, "x_token")?;
        if !name.as_str().contains('_') {
            let problem =
                Problem::new(format!("{name} has no underscore, so it is forwarded anyway"));
            return Err(problem.help("remove it from this list"));
        }
        if !may_be_forwarded(&name) {
            let plain = name.as_str().replace('_', "-");
            let problem = Problem::new(format!(
                "{name} cannot be forwarded: applications that follow CGI take it for {plain}, which \
                 clients must not set"
            ));
            return Err(problem.help("remove it from this list"));
        }
        Ok(Self(name))
    }
}

/// The name of the proxy in `Via`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViaName(pub(crate) Arc<str>);

impl TomlValue for ViaName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a name such as \"edge-1\"")?;
        // RFC 9110 7.6.3: a pseudonym is a token.
        if !is_token(text.as_bytes()) || text.len() > VIA_BYTES_MAX {
            let problem = Problem::new(format!("\"{text}\" cannot be a name in Via"));
            return Err(problem.help("write a short word without spaces, such as \"edge-1\""));
        }
        Ok(Self(text.into()))
    }
}

/// Whether a field with an underscore in its name may be forwarded if the operator lists it: not if an
/// application that follows CGI takes it for one that clients must not set.
pub fn may_be_forwarded(name: &HeaderName) -> bool {
    let plain = name.as_str().replace('_', "-");
    !HeaderName::from_bytes(plain.as_bytes())
        .is_ok_and(|plain| protected(&plain).is_some() || is_proxy_field(plain.as_str()))
}

/// A field to set, for example `"X-Env: prod"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderField {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

impl TomlValue for HeaderField {
    fn list_help(key: &str, value: &DeValue<'_>) -> Option<String> {
        let fields: Vec<String> = value
            .as_table()?
            .iter()
            .map(|(name, value)| {
                Some(format!("\"{}: {}\"", name.get_ref(), value.get_ref().as_str()?))
            })
            .collect::<Option<_>>()?;
        Some(format!("write {key} = [{}]", fields.join(", ")))
    }

    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a header field such as \"X-Env: prod\"")?;
        let Some((name, content)) = text.split_once(':') else {
            let problem = Problem::new(format!("\"{text}\" has no colon"));
            return Err(match text.split_once(['=', ' ']) {
                Some((name, content)) if is_name(name.trim()) => {
                    let read = field_name(name.trim(), "X-Env: prod").ok();
                    read.and_then(|name| protected(&name)).unwrap_or_else(|| {
                        problem.help(format!("write \"{}: {}\"", name.trim(), content.trim()))
                    })
                }
                Some(_) | None => problem.help("write name and value, as in \"X-Env: prod\""),
            });
        };
        let name = field_name(name, "X-Env: prod")?;
        if let Some(problem) = protected(&name) {
            return Err(problem);
        }
        // Whitespace around a value is not part of it (RFC 9110 section 5.5).
        let content = content.trim_matches([' ', '\t']);
        if content.is_empty() {
            let problem = Problem::new(format!("{name} has no value"));
            return Err(problem.help("to remove a field, list its name in remove"));
        }
        if let Some(found) = find_variable(content) {
            let names_client = ["addr", "remote_ip", "client_ip"]
                .iter()
                .any(|part| found.to_lowercase().contains(part));
            return Err(variable(found).help(match names_client {
                true => "the client address is sent in X-Forwarded-For",
                false => "write a fixed text",
            }));
        }
        // New values must be ASCII (RFC 9110 section 5.5); a line break would start another field.
        let value = HeaderValue::from_str(content).ok().filter(|_| content.is_ascii());
        match value {
            Some(value) => Ok(Self { name, value }),
            None => {
                Err(Problem::new(format!("the value of {name} is not valid in a header field"))
                    .help("write printable ASCII on one line"))
            }
        }
    }
}

/// Parses a field name. `entry` is an example of a whole entry of the list.
fn field_name(text: &str, entry: &str) -> Result<HeaderName, Problem> {
    if text.is_empty() {
        let problem = Problem::new("the name of the field is empty");
        return Err(problem.help(format!("write one such as \"{entry}\"")));
    }
    let problem = || Problem::new(format!("\"{text}\" is not the name of a header field"));
    // Whitespace before the colon is an error (RFC 9112 section 5.1).
    if text.trim() != text && is_name(text.trim()) {
        return Err(problem().help(format!("write \"{}\", without spaces", text.trim())));
    }
    // A valid character of a name, but always meant as a wildcard.
    if text.contains('*') {
        return Err(problem().help("wildcards are not supported: write each name in full"));
    }
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| problem().help("write one such as \"X-Env\""))
}

/// Whether the text is a field name (RFC 9110 section 5.1).
fn is_name(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// Why a field cannot be changed; `None` if it can.
fn protected(name: &HeaderName) -> Option<Problem> {
    // Many applications treat X_Forwarded_For as X-Forwarded-For.
    let plain = name.as_str().replace('_', "-");
    let (cannot, why) = match plain.as_str() {
        "host" => ("changed", "it selects the route and is passed on as the client sent it"),
        "via" => ("changed", "each proxy adds its own name"),
        "cdn-loop" => ("changed", "tidegate uses it to detect loops"),
        "forwarded" | "x-real-ip" => ("changed", SET_FOR_BACKENDS),
        REQUEST_ID => ("set", "tidegate sets the request id itself"),
        plain if plain.starts_with("x-forwarded-") => ("changed", SET_FOR_BACKENDS),
        plain if plain.starts_with("sec-websocket-") => {
            ("changed", "it is part of the WebSocket handshake")
        }
        plain if HOP.contains(&plain) || plain.starts_with("proxy-") => {
            ("changed", "it controls message framing or applies to one hop only")
        }
        _ => return None,
    };
    let problem = Problem::new(format!("{name} cannot be {cannot}: {why}"));
    Some(match plain.as_str() {
        "forwarded" => {
            problem.help("to send Forwarded as well, write forwarded = true in the route")
        }
        "via" => problem.help("to send Via, write via = \"NAME\" in the route"),
        _ => problem.help("remove it from this list"),
    })
}

/// Hop-by-hop fields (RFC 9110 section 7.6.1), and the fields that frame a message.
const HOP: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const SET_FOR_BACKENDS: &str = "tidegate sets it for backends";
const REQUEST_ID: &str = "x-request-id";
/// Maximum length of a name in `Via`.
const VIA_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colon_is_suggested_for_a_field_that_cannot_be_set() {
        let error =
            |text: &str| HeaderField::read(&DeValue::String(text.into())).unwrap_err().to_string();
        assert!(error("X-Env prod").contains("write \"X-Env: prod\""), "{}", error("X-Env prod"));
        for text in ["Upgrade websocket", "Sec-WebSocket-Version=13", "Connection close"] {
            let (name, _) = text.split_once([' ', '=']).unwrap();
            assert_eq!(error(text), error(&format!("{name}: x")));
        }
    }
}
