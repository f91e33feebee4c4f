//! Which backends a list consists of while its names have these addresses.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::settings::pool::BackendSettings;
use crate::upstream::admin_override::AdminOverride;
use crate::upstream::backend_name::{ListedName, only_address, separate_addresses};

/// A backend of a pool: one that the list names, or one address of a name.
#[derive(Debug)]
pub struct Member {
    /// Its settings; those of the name with another id and address, if it is one of several addresses.
    pub settings: BackendSettings,
    /// The name that its address belongs to.
    pub listed: Option<Arc<ListedName>>,
    /// What its load is counted by: the same for an address whether or not it is the only one of its name.
    pub load_id: Arc<str>,
}

impl Member {
    /// What an operator set for it; `of_id` is what was set for its id before.
    pub fn admin_override(&self, of_id: Arc<AdminOverride>) -> Arc<AdminOverride> {
        match &self.listed {
            None => of_id,
            // Several addresses of one machine have only that of their name.
            Some(listed) if self.load_id == listed.id => listed.admin_override.clone(),
            Some(listed) if self.settings.id == listed.id => {
                listed.addresses.get(&self.load_id, Arc::default())
            }
            Some(listed) => listed.addresses.get(&self.load_id, of_id),
        }
    }
}

/// The members of a list whose names have these answers, in the order of the list, and those of a name by address. An
/// address that belongs to several names is one member.
pub fn members(
    list: &[BackendSettings],
    names: &[Arc<ListedName>],
    answers: &[Arc<[SocketAddr]>],
) -> Vec<Member> {
    let mut ids = HashSet::new();
    let mut members = Vec::new();
    for settings in list {
        let named = names.iter().zip(answers).find(|(listed, _)| listed.id == settings.id);
        let Some((listed, answer)) = named else {
            let (settings, load_id) = (settings.clone(), settings.id.clone());
            members.push(Member { settings, listed: None, load_id });
            continue;
        };
        let addresses = separate_addresses(answer);
        let member = |settings: BackendSettings, load_id| Member {
            settings,
            listed: Some(listed.clone()),
            load_id,
        };
        if addresses.is_empty() {
            let only = only_address(answer).map(|only| only.to_string().into());
            let load_id = only.unwrap_or_else(|| settings.id.clone());
            members.push(member(settings.clone(), load_id));
            continue;
        }
        for address in addresses {
            let of_address = ListedName::member(settings, address);
            let is_listed = list.iter().any(|other| other.id == of_address.id);
            if !is_listed && ids.insert(of_address.id.clone()) {
                let load_id = of_address.id.clone();
                members.push(member(of_address, load_id));
            }
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::values::backend_address::BackendAddress;
    use crate::upstream::backend_name::BackendNames;

    fn listed(address: &str) -> BackendSettings {
        let address = BackendAddress::parse(address).unwrap();
        let is_name =
            matches!(&address, BackendAddress::Tcp { host, .. } if host.ends_with("internal"));
        BackendSettings {
            id: address.to_string().into(),
            address,
            is_per_address: is_name,
            weight: NonZeroU32::new(3).unwrap(),
            is_backup: true,
            is_canary: false,
            max_tunnels: Some(7),
            cookie_value: None,
        }
    }

    /// The ids of the members, and those that their load is counted by if they differ.
    fn ids(list: &[&str], answers: &[&[&str]]) -> Vec<String> {
        let list: Vec<BackendSettings> = list.iter().map(|address| listed(address)).collect();
        let names = BackendNames::default();
        let name = |of: &BackendSettings| {
            Arc::new(ListedName {
                id: of.id.clone(),
                weight: of.weight,
                admin_override: Arc::default(),
                addresses: Arc::default(),
                name: names.get(&of.address),
            })
        };
        let names: Vec<_> = list.iter().filter(|of| of.is_per_address).map(name).collect();
        let address = |text: &&str| text.parse::<SocketAddr>().unwrap();
        let answers: Vec<Arc<[SocketAddr]>> =
            answers.iter().map(|answer| answer.iter().map(address).collect()).collect();
        let found = members(&list, &names, &answers);
        let text = |member: &Member| {
            assert_eq!((member.settings.weight.get(), member.settings.max_tunnels), (3, Some(7)));
            match member.settings.id == member.load_id {
                true => member.load_id.to_string(),
                false => format!("{} as {}", member.settings.id, member.load_id),
            }
        };
        found.iter().map(text).collect()
    }

    #[test]
    fn name_without_several_addresses_is_one_backend() {
        let list = ["a.internal:1", "192.0.2.9:1"];
        for (answer, expected) in [
            (&[][..], "a.internal:1"),
            (&["192.0.2.1:1"], "a.internal:1 as 192.0.2.1:1"),
            (&["[::1]:1", "127.0.0.1:1"], "a.internal:1"),
        ] {
            assert_eq!(ids(&list, &[answer]), [expected, "192.0.2.9:1"]);
        }
    }

    #[test]
    fn each_of_several_addresses_is_a_backend() {
        let list = ["192.0.2.9:1", "a.internal:1", "b.internal:1"];
        let answers: [&[&str]; 2] = [
            &["[2001:db8::1]:1", "192.0.2.10:1", "192.0.2.2:1", "192.0.2.9:1"],
            &["192.0.2.2:1", "192.0.2.3:1"],
        ];
        // Those that the list names itself, and those of an earlier name, are not added again.
        let expected =
            ["192.0.2.9:1", "192.0.2.2:1", "192.0.2.10:1", "[2001:db8::1]:1", "192.0.2.3:1"];
        assert_eq!(ids(&list, &answers), expected);
        let reordered: Vec<&str> = answers[0].iter().rev().copied().collect();
        assert_eq!(ids(&list, &[&reordered, answers[1]]), expected);
    }
}
