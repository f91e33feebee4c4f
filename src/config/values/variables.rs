//! Variables in the syntax of other servers, which are not supported here.

use crate::config::toml::diagnostic::Problem;

/// Checks a text that would be used literally.
///
/// # Errors
///
/// The text contains a variable.
pub(crate) fn reject_variable(text: &str) -> Result<(), Problem> {
    match find_variable(text) {
        Some(variable) => {
            let problem = format!("variables such as \"{variable}\" are not supported");
            Err(Problem::new(problem).help("write the value itself"))
        }
        None => Ok(()),
    }
}

/// Finds `$name`, `${name}` or `%{name}`. A dollar sign within a word is literal, as in the hash of
/// a password.
pub(crate) fn find_variable(text: &str) -> Option<&str> {
    let (at, _) = text.match_indices(['$', '%']).find(|(at, sign)| {
        let (before, after) = (&text[..*at], &text[at + 1..]);
        let name = |c: char| c.is_ascii_alphabetic() || c == '_';
        after.starts_with('{')
            || *sign == "$"
                && after.starts_with(name)
                && !before.ends_with(|c: char| c.is_ascii_alphanumeric())
    })?;
    let found = &text[at..];
    let rest = |c: char| !(c.is_ascii_alphanumeric() || "$%{}_".contains(c));
    Some(&found[..found.find(rest).unwrap_or(found.len())])
}
