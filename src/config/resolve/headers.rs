//! The header fields that a route sets and removes.

use std::collections::HashMap;

use hyper::header::{HeaderName, STRICT_TRANSPORT_SECURITY};

use crate::config::schema::route::HeadersTable;
use crate::config::settings::HeaderRules;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::field::UnderscoreName;
use crate::config::values::hsts::HstsAge;
use crate::config::values::scalars::OrOff;

/// Converts the rules. Each name may be listed once, since removing a field that is set, or setting
/// it twice, is a mistake.
pub(crate) fn headers(table: &HeadersTable, sink: &mut DiagnosticSink<'_>) -> HeaderRules {
    let remove = list(&table.remove);
    let set = list(&table.set);
    let names = remove.iter().map(|item| (&item.value.0, &item.location));
    let names = names.chain(set.iter().map(|item| (&item.value.name, &item.location)));
    let mut listed: HashMap<&HeaderName, &str> = HashMap::new();
    for (name, location) in names {
        if let Some(other) = listed.insert(name, &location.key) {
            let problem = Problem::new(format!("{name} is already listed in {other}"));
            let help = "list a field once; a field that is set replaces a received one";
            sink.report(location, problem.help(help));
        }
    }
    HeaderRules {
        remove: remove.iter().map(|item| item.value.0.clone()).collect(),
        set: set.iter().map(|item| (item.value.name.clone(), item.value.value.clone())).collect(),
    }
}

/// The names with underscores that a route forwards. Applications that follow CGI do not distinguish
/// `x_user` from `X-User`, so a name must not stand for a field that the route sets or removes: clients
/// could get around that.
pub(crate) fn underscore_headers(
    given: &Parsed<Vec<Located<UnderscoreName>>>,
    rules: &HeaderRules,
    sink: &mut DiagnosticSink<'_>,
) -> Vec<HeaderName> {
    let plain = |name: &HeaderName| name.as_str().replace('_', "-");
    for Located { value: UnderscoreName(name), location } in list(given) {
        let mut changed = rules.remove.iter().chain(rules.set.iter().map(|(name, _)| name));
        if let Some(other) = changed.find(|other| plain(other) == plain(name)) {
            let problem = Problem::new(format!(
                "applications that follow CGI take {name} for {other}, which request_headers changes"
            ));
            sink.report(
                location,
                problem.help("remove it from this list, or from request_headers"),
            );
        }
    }
    list(given).iter().map(|item| item.value.0.clone()).collect()
}

/// `hsts` sets a field that the rules must therefore not change.
pub(crate) fn check_hsts(
    given: &Parsed<OrOff<HstsAge>>,
    rules: &HeaderRules,
    sink: &mut DiagnosticSink<'_>,
) {
    let mut changed = rules.remove.iter().chain(rules.set.iter().map(|(name, _)| name));
    if let Some(Located { value: OrOff(Some(_)), location }) = given.located()
        && changed.any(|name| *name == STRICT_TRANSPORT_SECURITY)
    {
        let problem = Problem::new("response_headers of this route changes the same field");
        let help = "remove hsts, or strict-transport-security from response_headers";
        sink.report(location, problem.help(help));
    }
}

fn list<T>(given: &Parsed<Vec<Located<T>>>) -> &[Located<T>] {
    given.value().map_or(&[], Vec::as_slice)
}
