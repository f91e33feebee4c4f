//! Variables in the syntax of other servers, which are not filled in here.

use super::diagnostic::Problem;

/// Checks a text that would be used literally.
///
/// # Errors
///
/// The text contains a variable.
pub(crate) fn reject_variable(text: &str) -> Result<(), Problem> {
    find_variable(text).map_or(Ok(()), |found| Err(variable(found).help("write the value itself")))
}

/// The problem of a text that contains this variable.
pub(crate) fn variable(found: &str) -> Problem {
    Problem::new(format!("{BEGINNING} \"{found}\" are not filled in; this file is read as it is"))
}

/// The problem of an invalid text: if it contains a variable, that is the cause.
pub(crate) fn or_variable(problem: Problem, text: Option<&str>) -> Problem {
    if problem.starts_with(BEGINNING) {
        return problem;
    }
    text.and_then(|text| reject_variable(text).err()).unwrap_or(problem)
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

/// How every message about a variable begins.
const BEGINNING: &str = "variables such as";
