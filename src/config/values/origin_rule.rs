//! The entries of a route's `origins`.

use std::fmt;

use super::origin::{Origin, OriginError};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::nearest::nearest;
use crate::config::toml::variables::reject_variable;

/// One entry of a route's `origins`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginRule {
    /// `"*"`: any `Origin` field, or none.
    Any,
    /// `"same-origin"`: scheme, host and port of the request.
    SameOrigin,
    /// `"null"`: the opaque origin (sandboxed frames, local files).
    Null,
    /// `"missing"`: no `Origin` field (clients other than browsers).
    Missing,
    /// Exactly this origin.
    Exact(Origin),
    /// Any subdomain of this host with the same scheme and port: `https://*.example.com`.
    Subdomains(Origin),
    /// Any origin with this scheme, in lower case, which no web page can have:
    /// `moz-extension://*`.
    Scheme(Box<str>),
    /// A field with exactly this text, which is not a serialized origin. Devices and shells send
    /// such texts: `file://`, `http://192.168.1.9/path`, `host:port`, or an empty one.
    Text(Box<str>),
}

impl OriginRule {
    /// Parses one entry of a route's `origins`.
    ///
    /// # Errors
    ///
    /// Describes the mistake and suggests a valid entry.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "*" => return Ok(Self::Any),
            "same-origin" => return Ok(Self::SameOrigin),
            "null" => return Ok(Self::Null),
            "missing" => return Ok(Self::Missing),
            _ => {}
        }
        if let Some(scheme) = text.strip_suffix("://*") {
            return scheme_rule(scheme);
        }
        match text.split_once("://*.") {
            Some((scheme, parent)) => subdomains(text, scheme, parent),
            None if text.contains('*') => Err(misplaced_wildcard(text)),
            None => match Origin::parse(text) {
                Ok(origin) => Ok(Self::Exact(origin)),
                Err(error) => literal(text, error),
            },
        }
    }

    /// Whether an `Origin` field with this text is allowed. `own` is what `same-origin` stands for.
    pub fn allows(&self, text: &str, own: &Origin) -> bool {
        let origin = || Origin::parse(text).ok();
        match self {
            Self::Any => true,
            Self::Missing => false,
            Self::Null => text == "null",
            Self::SameOrigin => origin().as_ref() == Some(own),
            Self::Exact(listed) => origin().as_ref() == Some(listed),
            Self::Subdomains(parent) => origin().is_some_and(|origin| origin.is_below(parent)),
            Self::Scheme(listed) => scheme_of(text).is_some_and(|s| s.eq_ignore_ascii_case(listed)),
            Self::Text(listed) => text == &**listed,
        }
    }

    /// Why the entry is probably a mistake: it looks like the address of a page, but no browser
    /// sends this text. `None` for all other entries.
    pub fn warning(&self) -> Option<String> {
        let text = self.to_string();
        let (what, page) = match self {
            Self::Exact(origin) if matches!(origin.scheme.as_str(), "ws" | "wss") => {
                let scheme = if origin.scheme == "wss" { "https" } else { "http" };
                ("the address of a WebSocket", text.replacen(&origin.scheme, scheme, 1))
            }
            Self::Text(_) => match Origin::parse(&text) {
                Err(OriginError::Path) if scheme_of(&text).is_some_and(is_web_scheme) => {
                    ("a path", without_path(&text))
                }
                Err(OriginError::NoScheme) if !text.is_empty() => ("no scheme", meant(&text)),
                Ok(_) | Err(_) => return None,
            },
            Self::Any
            | Self::SameOrigin
            | Self::Null
            | Self::Missing
            | Self::Exact(_)
            | Self::Subdomains(_)
            | Self::Scheme(_) => return None,
        };
        Some(format!(
            "browsers never send an origin with {what}, so this admits only clients that send \
             exactly \"{text}\"; to admit {}, write \"{page}\"",
            if page == "missing" { "clients that send none" } else { "pages" }
        ))
    }
}

/// What an entry without a scheme probably stands for.
fn meant(text: &str) -> String {
    match text.trim_matches('\'').to_ascii_lowercase().as_str() {
        "self" => "same-origin".to_owned(),
        "any" | "all" | "everyone" => "*".to_owned(),
        "none" => "missing".to_owned(),
        "localhost" => "http://localhost".to_owned(),
        _ => format!("https://{}", without_path(text)),
    }
}

/// Formats the entry as in the file.
impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::SameOrigin => f.write_str("same-origin"),
            Self::Null => f.write_str("null"),
            Self::Missing => f.write_str("missing"),
            Self::Exact(origin) => origin.fmt(f),
            Self::Subdomains(parent) => {
                f.write_str(&parent.to_string().replacen("://", "://*.", 1))
            }
            Self::Scheme(scheme) => write!(f, "{scheme}://*"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The entry that allows exactly this `Origin` field, as it is written in the file, and one for its
/// whole scheme if that is safe. `None` if no entry can, or if the text may contain a credential.
pub fn entries_for(text: &str) -> Option<String> {
    let rule = OriginRule::parse(text).ok()?;
    if text.contains(['@', '=']) || matches!(rule, OriginRule::Scheme(_) | OriginRule::Any) {
        return None;
    }
    let entry = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let scheme = scheme_of(text).and_then(|scheme| scheme_rule(scheme).ok());
    Some(match scheme {
        Some(scheme) => format!("{entry} or \"{scheme}\""),
        None => entry,
    })
}

fn scheme_rule(scheme: &str) -> Result<OriginRule, Problem> {
    // The host takes no part in the check of the scheme.
    let origin = Origin::parse(&format!("{scheme}://a"));
    let origin =
        origin.map_err(|error| not_an_origin(&format!("{scheme}://*"), error).help(RULES))?;
    if !is_web_scheme(&origin.scheme) {
        return Ok(OriginRule::Scheme(origin.scheme.into()));
    }
    let problem = Problem::new(format!("\"{scheme}://*\" would admit pages of every site"));
    Err(problem.help(if origin.scheme == "file" {
        "clients that open local files send \"file://\": write that"
    } else {
        "list the sites, such as \"https://chat.example.com\" or \"https://*.example.com\";\n\
         if the application checks the Origin itself, write \"*\""
    }))
}

fn subdomains(text: &str, scheme: &str, parent: &str) -> Result<OriginRule, Problem> {
    let parent = Origin::parse(&format!("{scheme}://{parent}"));
    let parent =
        parent.map_err(|error| not_an_origin(text, error).help(suggestion(text, error)))?;
    if parent.host.starts_with('[') || parent.host.parse::<std::net::Ipv4Addr>().is_ok() {
        let problem = not_an_origin(text, "an IP address has no subdomains");
        return Err(problem.help(format!("write \"{parent}\"")));
    }
    if matches!(parent.scheme.as_str(), "ws" | "wss") {
        let scheme = if parent.scheme == "wss" { "https" } else { "http" };
        let (_, rest) = text.split_once("://").unwrap_or(("", text));
        let problem = not_an_origin(text, "it is the address of a WebSocket, not that of a page");
        return Err(problem.help(format!("write \"{scheme}://{rest}\"")));
    }
    Ok(OriginRule::Subdomains(parent))
}

/// An entry that is not a serialized origin: a text that some clients send, unless no client can
/// send it or it is a misspelled keyword.
fn literal(text: &str, error: OriginError) -> Result<OriginRule, Problem> {
    reject_variable(text)?;
    let problem = not_an_origin(text, error);
    if text.len() > TEXT_BYTES_MAX {
        let length = text.len();
        return Err(Problem::new(format!(
            "the origin is {length} bytes long; the maximum is {TEXT_BYTES_MAX}"
        )));
    }
    // An `Origin` that is not printable ASCII is always rejected; whitespace around it is not part
    // of the value.
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.trim() != text {
        return Err(problem.help(suggestion(text, error)));
    }
    if error == OriginError::NoScheme
        && let Some(keyword) = nearest(text, KEYWORDS).filter(|_| !text.is_empty())
    {
        return Err(problem.help(format!("did you mean \"{keyword}\"?")));
    }
    Ok(OriginRule::Text(text.into()))
}

fn not_an_origin(text: &str, why: impl fmt::Display) -> Problem {
    Problem::new(format!("\"{text}\" is not an origin: {why}"))
}

/// The part before `://`.
fn scheme_of(text: &str) -> Option<&str> {
    text.split_once("://").map(|(scheme, _)| scheme)
}

fn without_path(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    format!("{scheme}{}", rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest))
}

/// Whether pages that anyone can publish or send to a user may have an origin with this scheme, in
/// some browser. Other schemes belong to software that the user installed: extensions, editors and
/// applications.
fn is_web_scheme(scheme: &str) -> bool {
    WEB_SCHEMES.iter().any(|web| scheme.eq_ignore_ascii_case(web))
}

fn suggestion(text: &str, error: OriginError) -> String {
    match error {
        OriginError::NotAscii => {
            "write the name in punycode, as browsers send it: \"https://xn--bcher-kva.example\""
                .to_owned()
        }
        OriginError::Path => format!("write \"{}\"", without_path(text)),
        OriginError::User => match text.split_once("://").zip(text.rsplit_once('@')) {
            Some(((scheme, _), (_, host))) => format!("write \"{scheme}://{host}\""),
            None => RULES.to_owned(),
        },
        OriginError::BadPort => "ports are 1 to 65535".to_owned(),
        OriginError::NoScheme
        | OriginError::BadScheme
        | OriginError::NoHost
        | OriginError::BadHost => {
            "write it as browsers do: \"https://chat.example.com\", \"http://localhost:3000\""
                .to_owned()
        }
    }
}

fn misplaced_wildcard(text: &str) -> Problem {
    match text.strip_prefix("*.").filter(|parent| !parent.contains('*')) {
        Some(parent) => Problem::new(format!("\"{text}\" has no scheme"))
            .help(format!("write \"https://*.{parent}\"")),
        None => Problem::new(format!("\"{text}\" has a misplaced wildcard")).help(
            "\"https://*.example.com\" matches every subdomain of example.com, \"*\" alone matches any origin",
        ),
    }
}

const KEYWORDS: [&str; 3] = ["same-origin", "null", "missing"];
/// `ipfs`, `ipns`, `dat` and `hyper` are those of pages in browsers for peer-to-peer networks.
const WEB_SCHEMES: [&str; 14] = [
    "about",
    "blob",
    "dat",
    "data",
    "file",
    "filesystem",
    "ftp",
    "http",
    "https",
    "hyper",
    "ipfs",
    "ipns",
    "ws",
    "wss",
];
/// Maximum length of an entry that is not a serialized origin; records show as much.
const TEXT_BYTES_MAX: usize = 256;

/// The choices for `origins`, as shown in error messages.
pub(crate) const RULES: &str = "list the pages that may connect:
\"same-origin\"               pages on the route's own host
\"https://chat.example.com\"  exactly this origin
\"https://*.example.com\"     any subdomain of example.com
\"missing\"                   clients that send no Origin, such as native applications
\"null\"                      sandboxed frames and local files
\"file://\"                   clients that send exactly this text
\"moz-extension://*\"         any origin with this scheme: browser extensions, applications
\"*\"                         any origin: only if the backend checks it itself";

#[cfg(test)]
mod tests;
