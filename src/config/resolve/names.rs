//! Names of which each may be given once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::toml::diagnostic::{Complaint, Place};
use crate::config::toml::findings::Findings;

/// Who has which name.
#[derive(Default)]
pub(crate) struct Names {
    taken: HashMap<Arc<str>, String>,
}

impl Names {
    /// Gives the name to `owner` (a key path, as in `route[0]`), or says who has it.
    pub(crate) fn take(
        &mut self,
        name: &Arc<str>,
        owner: &str,
        place: &Place,
        help: &str,
        findings: &mut Findings<'_>,
    ) {
        match self.taken.get(name) {
            Some(other) => {
                let wrong = Complaint::new(format!("\"{name}\" is {other} already"));
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
