//! Header fields that a route sets and removes.

use std::collections::HashMap;

use hyper::header::HeaderName;

use crate::config::schema::route::HeadersTable;
use crate::config::settings::HeaderRules;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::{Located, Parsed};

/// Each name once: to remove what is set, or to set it twice, can only be a slip.
pub(crate) fn headers(table: &HeadersTable, findings: &mut DiagnosticSink<'_>) -> HeaderRules {
    let remove = list(&table.remove);
    let set = list(&table.set);
    let names = remove.iter().map(|at| (&at.value.0, &at.place));
    let names = names.chain(set.iter().map(|at| (&at.value.name, &at.place)));
    let mut listed: HashMap<&HeaderName, &str> = HashMap::new();
    for (name, place) in names {
        if let Some(other) = listed.insert(name, &place.key) {
            let wrong = Problem::new(format!("{name} is listed already: {other}"));
            let help = "list a field once; one that is set takes the place of any that came";
            findings.fault(place, wrong.help(help));
        }
    }
    HeaderRules {
        remove: remove.iter().map(|at| at.value.0.clone()).collect(),
        set: set.iter().map(|at| (at.value.name.clone(), at.value.value.clone())).collect(),
    }
}

fn list<T>(given: &Parsed<Vec<Located<T>>>) -> &[Located<T>] {
    given.value().map_or(&[], Vec::as_slice)
}
