//! Errors that appear only when a configuration is applied, for example a certificate that cannot
//! be read or a limit that this machine cannot meet, and their locations in the file.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, Location, Problem};
use super::source;

/// An error in a value that was valid when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LateDiagnostic {
    /// Path of the key, for example `certificate[0].chain`.
    pub key: String,
    /// The message, in lower case and without a full stop.
    pub problem: String,
}

impl Diagnostics {
    /// Locates errors in the current content of a file. `first` is separate from `rest` because
    /// there is always at least one error.
    pub fn from_late(path: &Path, first: &LateDiagnostic, rest: &[LateDiagnostic]) -> Self {
        let name = path.display().to_string();
        let bytes = source::read(path, source::SIZE_MAX).unwrap_or_default();
        let text = source::decode(&bytes).unwrap_or_default();
        Self::from_late_in_text(&name, text, first, rest)
    }

    /// Locates errors in a text; `name` is the file name to show.
    pub fn from_late_in_text(
        name: &str,
        text: &str,
        first: &LateDiagnostic,
        rest: &[LateDiagnostic],
    ) -> Self {
        let root = source::parse(text).ok().map(|(root, _)| root);
        let root = root.as_ref().map(Spanned::get_ref);
        let rest = rest.iter().map(|later| later.locate(root)).collect();
        Self::new(name, text, first.locate(root), rest)
    }
}

impl LateDiagnostic {
    /// The error with its location in a document.
    pub(crate) fn locate(&self, root: Option<&DeTable<'_>>) -> Diagnostic {
        match root.and_then(|root| find(root, &self.key)) {
            Some(span) => {
                let location = Location { key: self.key.clone(), span };
                Diagnostic::at(location, Problem::new(&self.problem))
            }
            // The key has its default value, or the file has changed.
            None => Diagnostic::for_file(Problem::new(format!("{}: {}", self.key, self.problem))),
        }
    }
}

/// The byte range of a key's value.
fn find(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let mut table = Some(root);
    let mut span = None;
    for step in key.split('.') {
        let (name, index) = match step.split_once('[') {
            Some((name, index)) => (name, index.strip_suffix(']')?.parse::<usize>().ok()),
            None => (step, None),
        };
        let (_, found) = table?.iter().find(|(key, _)| key.get_ref() == name)?;
        let value = match (found.get_ref(), index) {
            (DeValue::Array(list), Some(index)) => list.get(index)?,
            (_, None) => found,
            (_, Some(_)) => return None,
        };
        span = Some(value.span());
        table = value.get_ref().as_table();
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_errors_are_located_by_key() {
        let text = "[[certificate]]\nchain = \"a\"\n[[certificate]]\nchain = \"b\"\nkey = \"k\"\n";
        let root = DeTable::parse(text).unwrap();
        let at = |key| find(root.get_ref(), key).map(|span| &text[span]);
        assert_eq!(at("certificate[1].chain"), Some("\"b\""));
        assert_eq!(at("certificate[1].key"), Some("\"k\""));
        assert_eq!(at("certificate[0].key"), None);
        assert_eq!(at("concurrency.tunnels"), None);
    }

    #[test]
    fn errors_are_shown_without_the_file() {
        let later =
            LateDiagnostic { key: "concurrency.tunnels".into(), problem: "too many".into() };
        let shown = Diagnostics::from_late(Path::new("/nowhere.toml"), &later, &[]).to_string();
        assert!(shown.contains("/nowhere.toml: concurrency.tunnels: too many"), "{shown}");
    }
}
