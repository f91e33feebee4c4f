//! Names of which each may be given once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::toml::diagnostic::{KeyPath, Problem};
use crate::config::toml::findings::DiagnosticSink;

/// Who has which name.
#[derive(Default)]
pub(crate) struct UniqueNames {
    taken: HashMap<Arc<str>, String>,
}

impl UniqueNames {
    /// Gives the name to `owner` (a key path, as in `route[0]`), or says who has it.
    pub(crate) fn take(
        &mut self,
        name: &Arc<str>,
        owner: &str,
        place: &KeyPath,
        help: &str,
        findings: &mut DiagnosticSink<'_>,
    ) {
        match self.taken.get(name) {
            Some(other) => {
                let wrong = Problem::new(format!("\"{name}\" is {other} already"));
                findings.fault(place, wrong.help(help));
            }
            None => {
                self.taken.insert(Arc::clone(name), owner.to_owned());
            }
        }
    }

    /// A name like `wish` that nobody has.
    pub(crate) fn free(&mut self, wish: &str, owner: &str) -> Arc<str> {
        let numbered = (2..).map(|number| format!("{wish}#{number}"));
        let free = std::iter::once(wish.to_owned())
            .chain(numbered)
            .find(|name| !self.taken.contains_key(name.as_str()))
            .map_or_else(|| wish.into(), Arc::from);
        self.taken.insert(Arc::clone(&free), owner.to_owned());
        free
    }
}
