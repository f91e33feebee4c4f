//! Typing mistakes that occur in every kind of address.

use std::net::Ipv4Addr;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;
use crate::config::toml::synonyms::Synonym;

/// Splits an address from the words after it, as in nginx's `listen 443 ssl` and `server 10.0.0.7:80 backup`.
pub(crate) fn split_parameters(text: &str) -> Option<(&str, &str)> {
    let (address, parameters) =
        text.trim().trim_end_matches(';').split_once(char::is_whitespace)?;
    let parameters = parameters.trim_start();
    parameters.starts_with(|c: char| c.is_ascii_alphabetic()).then_some((address, parameters))
}

/// A line of help for each of these words that has a counterpart in `table`, or needs none.
pub(crate) fn help_for_parameters(table: &str, parameters: &str) -> String {
    let names = parameters.split_whitespace().map(|word| word.split('=').next().unwrap_or(word));
    let help = |name: &str| {
        let synonym = Synonym::of(&format!("{table}.{name}"))?;
        Some(format!("\n{name}: {}", synonym.help()))
    };
    names.filter_map(help).collect()
}

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
