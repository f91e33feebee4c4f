//! Typing mistakes that occur in every kind of address.

use std::net::Ipv4Addr;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;

/// Finds a space, or a number with a leading zero, in an address that does not parse.
pub(crate) fn find_mistake(text: &str) -> Option<Problem> {
    let problem = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if text.contains(char::is_whitespace) {
        let help = match text.trim() {
            trimmed if trimmed.contains(char::is_whitespace) => "remove the space".to_owned(),
            trimmed => format!("write \"{trimmed}\""),
        };
        return Some(problem("contains a space").help(help));
    }
    let parts: Vec<&str> = text.split('.').collect();
    let stripped: Vec<&str> = parts.iter().map(|part| part.trim_start_matches('0')).collect();
    let stripped = stripped.iter().map(|part| if part.is_empty() { "0" } else { part });
    let stripped = stripped.collect::<Vec<&str>>().join(".");
    let has_leading_zero =
        text.parse::<Ipv4Addr>().is_err() && parts.iter().all(|part| digits(part).is_some());
    // Some programs read 010 as octal 8.
    (has_leading_zero && stripped.parse::<Ipv4Addr>().is_ok()).then(|| {
        problem("has a number with a leading zero")
            .help(format!("write \"{stripped}\" if that is meant"))
    })
}
