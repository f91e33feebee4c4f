//! Which client addresses a listener or a route admits.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::values::network::show_network;
use crate::client::ClientAddr;
use crate::reject::address_rule::AddressRule;

/// The lists `allow` and `deny`. Both are empty by default, which admits every address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// If not empty, other addresses are rejected.
    pub allow: Arc<[IpNet]>,
    /// Rejected addresses.
    pub deny: Arc<[IpNet]>,
}

impl AddressRules {
    /// Decides about an address by the smallest network of both lists that contains it. The configuration
    /// guarantees that no network is in both. The time grows with the length of the lists.
    ///
    /// # Errors
    /// The list because of which the address is rejected.
    pub fn check(&self, addr: &ClientAddr) -> Result<(), AddressRule> {
        match (smallest(&self.allow, addr), smallest(&self.deny, addr)) {
            (None, None) if self.allow.is_empty() => Ok(()),
            (None, None) => Err(AddressRule::NotAllowed),
            (Some(allowed), Some(denied)) if allowed.prefix_len() > denied.prefix_len() => Ok(()),
            (Some(_), None) => Ok(()),
            (_, Some(denied)) => Err(AddressRule::Denied(denied)),
        }
    }

    /// The entries that decided, as far as a record shows them.
    pub fn deciding_value(&self, rule: AddressRule) -> String {
        match rule {
            AddressRule::Denied(network) => show_network(network),
            AddressRule::NotAllowed => FirstNetworks(&self.allow).to_string(),
        }
    }
}

fn smallest(networks: &[IpNet], addr: &ClientAddr) -> Option<IpNet> {
    let containing = networks.iter().filter(|network| network.contains(&addr.ip()));
    containing.max_by_key(|network| network.prefix_len()).copied()
}

/// Lists the first networks.
pub struct FirstNetworks<'n>(pub &'n [IpNet]);

impl fmt::Display for FirstNetworks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().take(SHOWN_MAX).map(|network| show_network(*network));
        f.write_str(&shown.collect::<Vec<_>>().join(", "))?;
        f.write_str(if self.0.len() > SHOWN_MAX { ", ..." } else { "" })
    }
}

/// Maximum number of networks listed.
const SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> AddressRules {
        let parse = |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect();
        AddressRules { allow: parse(allow), deny: parse(deny) }
    }

    fn checked(rules: &AddressRules, address: &str) -> Result<(), AddressRule> {
        rules.check(&ClientAddr::without_port(address.parse().unwrap()))
    }

    #[test]
    fn smallest_network_decides() {
        let denied = |network: &str| Err(AddressRule::Denied(network.parse().unwrap()));
        assert_eq!(checked(&rules(&[], &[]), "192.0.2.1"), Ok(()));
        let only = rules(&["10.0.0.0/8", "2001:db8::/32"], &[]);
        assert_eq!(checked(&only, "10.1.2.3"), Ok(()));
        assert_eq!(checked(&only, "::ffff:10.1.2.3"), Ok(()));
        assert_eq!(checked(&only, "2001:db8::1"), Ok(()));
        assert_eq!(checked(&only, "11.0.0.1"), Err(AddressRule::NotAllowed));
        let without = rules(&[], &["10.0.0.0/8"]);
        assert_eq!(checked(&without, "10.1.2.3"), denied("10.0.0.0/8"));
        assert_eq!(checked(&without, "11.0.0.1"), Ok(()));
        let nested = rules(&["10.0.0.0/8", "10.1.2.0/24"], &["10.1.0.0/16", "10.1.2.3/32"]);
        for (address, expected) in [
            ("10.2.0.1", Ok(())),
            ("10.1.1.1", denied("10.1.0.0/16")),
            ("10.1.2.2", Ok(())),
            ("10.1.2.3", denied("10.1.2.3/32")),
            ("::1", Err(AddressRule::NotAllowed)),
        ] {
            assert_eq!(checked(&nested, address), expected, "{address}");
        }
    }

    #[test]
    fn value_shows_the_deciding_entries() {
        let nets: Vec<String> = (0..9).map(|n| format!("10.{n}.0.0/16")).collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        let shown = rules(&nets, &[]).deciding_value(AddressRule::NotAllowed);
        assert!(
            shown.starts_with("10.0.0.0/16, ") && shown.ends_with("10.7.0.0/16, ..."),
            "{shown}"
        );
        let denied = AddressRule::Denied("10.0.0.7/32".parse().unwrap());
        assert_eq!(AddressRules::default().deciding_value(denied), "10.0.0.7");
    }
}
