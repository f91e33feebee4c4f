//! The keys `allow` and `deny` of listeners and routes.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::config::address_rules::AddressRules;
use crate::config::schema::listener::AddressKeys;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::network::{ClientNetwork, show_network};

/// Converts the lists. A network must be in one of them only, since the smallest one decides.
pub(crate) fn address_rules(keys: &AddressKeys, sink: &mut DiagnosticSink<'_>) -> AddressRules {
    let allowed = list(&keys.allow).iter();
    let allowed: HashMap<IpNet, &str> =
        allowed.map(|item| (item.value.0, item.location.key.as_str())).collect();
    for Located { value: ClientNetwork(network), location } in list(&keys.deny) {
        if let Some(other) = allowed.get(network) {
            let problem = Problem::new(format!("{} is allowed by {other}", show_network(*network)));
            sink.report(location, problem.help("remove it from one of the two lists"));
        }
    }
    let networks = |keys| list(keys).iter().map(|item| item.value.0).collect();
    AddressRules { allow: networks(&keys.allow), deny: networks(&keys.deny) }
}

fn list(given: &Parsed<Vec<Located<ClientNetwork>>>) -> &[Located<ClientNetwork>] {
    given.value().map_or(&[], Vec::as_slice)
}
