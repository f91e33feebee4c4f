//! Names that must be unique.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;

/// The names in use and the keys that use them.
#[derive(Default)]
pub(crate) struct UniqueNames {
    taken: HashMap<Arc<str>, String>,
}

impl UniqueNames {
    /// Assigns a name to `owner`, a key path such as `route[0]`, or reports that it is in use.
    pub(crate) fn reserve(
        &mut self,
        name: &Arc<str>,
        owner: &str,
        location: &Location,
        help: &str,
        sink: &mut DiagnosticSink<'_>,
    ) {
        match self.taken.get(name) {
            Some(other) => {
                let problem = Problem::new(format!("\"{name}\" is already used by {other}"));
                sink.report(location, problem.help(help));
            }
            None => {
                self.taken.insert(Arc::clone(name), owner.to_owned());
            }
        }
    }

    /// Assigns `name`, or `name#2` and so on if it is in use.
    pub(crate) fn unique(&mut self, name: &str, owner: &str) -> Arc<str> {
        let numbered = (2..).map(|number| format!("{name}#{number}"));
        let free = std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !self.taken.contains_key(name.as_str()))
            .map_or_else(|| name.into(), Arc::from);
        self.taken.insert(Arc::clone(&free), owner.to_owned());
        free
    }
}
