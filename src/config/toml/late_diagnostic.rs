//! Faults that show only when a configuration is put to use (a certificate that cannot be read, a
//! cap that this machine cannot meet), brought back to their place in the file.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, KeyPath, Problem};
use super::source;

/// What is wrong with a value that was lawful when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LateDiagnostic {
    /// Its key, as in `certificate[0].chain`.
    pub key: String,
    /// Lower case, without a full stop.
    pub problem: String,
}

impl Diagnostics {
    /// Shows faults where their keys stand in this file now; `first` and `rest`, so that there is
    /// one.
    pub fn found_later(path: &Path, first: &LateDiagnostic, rest: &[LateDiagnostic]) -> Self {
        let name = path.display().to_string();
        let bytes = source::read(path).unwrap_or_default();
        let text = source::decode(&bytes).unwrap_or_default();
        Self::found_later_in(&name, text, first, rest)
    }

    /// The same, in a text that stands in a file of this name, or might.
    pub fn found_later_in(
        name: &str,
        text: &str,
        first: &LateDiagnostic,
        rest: &[LateDiagnostic],
    ) -> Self {
        let root = source::parse(text).ok().map(|(root, _)| root);
        let fault = |later: &LateDiagnostic| {
            let complaint = Problem::new(later.problem.clone());
            match root.as_ref().and_then(|root| find(root.get_ref(), &later.key)) {
                Some(span) => Diagnostic::at(KeyPath { key: later.key.clone(), span }, complaint),
                // Not in the file: a default, or the file has changed since.
                None => {
                    Diagnostic::whole(Problem::new(format!("{}: {}", later.key, later.problem)))
                }
            }
        };
        Self::new(name, text, fault(first), rest.iter().map(fault).collect())
    }
}

/// The bytes of a key's value.
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
    fn a_later_fault_stands_where_its_key_does() {
        let text = "[[certificate]]\nchain = \"a\"\n[[certificate]]\nchain = \"b\"\nkey = \"k\"\n";
        let root = DeTable::parse(text).unwrap();
        let at = |key| find(root.get_ref(), key).map(|span| &text[span]);
        assert_eq!(at("certificate[1].chain"), Some("\"b\""));
        assert_eq!(at("certificate[1].key"), Some("\"k\""));
        assert_eq!(at("certificate[0].key"), None);
        assert_eq!(at("concurrency.tunnels"), None);
    }

    #[test]
    fn a_file_that_has_gone_still_gets_its_fault_told() {
        let later =
            LateDiagnostic { key: "concurrency.tunnels".into(), problem: "too many".into() };
        let shown = Diagnostics::found_later(Path::new("/nowhere.toml"), &later, &[]).to_string();
        assert!(shown.contains("/nowhere.toml: concurrency.tunnels: too many"), "{shown}");
    }
}
