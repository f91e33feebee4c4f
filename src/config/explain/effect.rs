//! When a changed key takes effect, and what becomes of the tunnels that are open.

use crate::config::settings::{DrainSettings, OnBackendLoss};
use crate::config::toml::reader::generic;
use crate::config::values::units::show_duration;

/// From when on a changed key holds, once the file has been reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppliesTo {
    /// At once, for whatever happens next.
    AtOnce,
    /// For connections that come in after the reload.
    Connections,
    /// For requests that come after the reload, on open connections, too. Handshakes are requests.
    Requests,
    /// For tunnels that begin after the reload.
    Tunnels,
    /// When tunnels are drained the next time, however old they are.
    Drain,
    /// When the process starts anew.
    Restart,
}

impl AppliesTo {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AtOnce,
        Self::Connections,
        Self::Requests,
        Self::Tunnels,
        Self::Drain,
        Self::Restart,
    ];

    /// For a table, in a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Self::AtOnce => "immediately",
            Self::Connections => "new connections",
            Self::Requests => "new requests",
            Self::Tunnels => "new tunnels",
            Self::Drain => "next drain",
            Self::Restart => "restart",
        }
    }

    /// What becomes of the tunnels that are open, and of those to come.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::AtOnce => "takes effect immediately; open tunnels stay open",
            Self::Connections => "applies to new connections; open tunnels stay open",
            Self::Requests => {
                "applies to new requests, including those on existing connections; established \
                 tunnels keep the old value"
            }
            Self::Tunnels => "applies to new tunnels; established tunnels keep the old value",
            Self::Drain => "applies to the next drain, including tunnels that are already open",
            Self::Restart => "requires a restart; until then the old value applies",
        }
    }
}

/// When a key takes effect, as in `route[0].limits.idle`; `None`: there is no such key.
pub fn takes_effect(key: &str) -> Option<AppliesTo> {
    let key = generic(key);
    if matches!(key.as_str(), "listener[].address" | "route[].on_backend_loss" | "log.level") {
        return Some(AppliesTo::AtOnce);
    }
    let (table, name) = key.split_once('.')?;
    Some(match (table, name) {
        ("listener[]" | "certificate[]", _) => AppliesTo::Connections,
        ("route[]", "compression" | "strict") => AppliesTo::Tunnels,
        ("route[]", name) if is_term(name) => AppliesTo::Tunnels,
        ("route[]", _) => AppliesTo::Requests,
        ("server" | "admin" | "control", _) | ("log", "format") => AppliesTo::Restart,
        ("limits" | "heartbeat", _) | ("drain", "code" | "reason") => AppliesTo::Tunnels,
        ("drain", _) => AppliesTo::Drain,
        ("timeouts", "proxy_header" | "tls" | "request_header") => AppliesTo::Connections,
        ("concurrency", "connections" | "connections_per_client") => AppliesTo::Connections,
        ("timeouts" | "concurrency" | "rates" | "trusted_proxies" | "client_key" | "log", _) => {
            AppliesTo::Requests
        }
        ("access", _) => AppliesTo::AtOnce,
        (_, _) => return None,
    })
}

fn is_term(name: &str) -> bool {
    name.starts_with("limits.") || name.starts_with("heartbeat.")
}

/// What becomes of the tunnels that are open and of those to come, if these keys change.
pub(crate) fn of_keys<'k>(keys: impl Iterator<Item = &'k str> + Clone) -> String {
    let mut times: Vec<AppliesTo> = keys.clone().filter_map(takes_effect).collect();
    times.sort();
    times.dedup();
    if let [only] = times.as_slice() {
        return only.sentence().to_owned();
    }
    let short = |key: &str| {
        // Within its table a key is known by its own name.
        let key = generic(key);
        key.split_once('.').map_or(key.clone(), |(_, name)| name.to_owned())
    };
    let one = |time: &AppliesTo| {
        let of = keys.clone().filter(|key| takes_effect(key) == Some(*time)).map(short);
        format!("{}: {}", of.collect::<Vec<_>>().join(", "), time.sentence())
    };
    times.iter().map(one).collect::<Vec<_>>().join(". ")
}

/// What becomes of the tunnels of a backend that is no longer there.
pub(crate) fn of_lost_backend(lost: OnBackendLoss, drain: &DrainSettings) -> String {
    let window = show_duration(drain.window);
    let fate = match lost {
        OnBackendLoss::Keep => "its tunnels stay open".to_owned(),
        OnBackendLoss::Drain => format!("its tunnels are closed over {window}"),
        OnBackendLoss::CloseAfter(after) => {
            let after = show_duration(after);
            format!("its tunnels still open after {after} are closed over {window}")
        }
    };
    format!("it receives no new tunnels; {fate}")
}

pub(crate) const LISTENER_ADDED: &str = "accepts connections after the reload";
pub(crate) const LISTENER_REMOVED: &str =
    "accepts no connections after the reload; its tunnels stay open";
pub(crate) const CERTIFICATE: &str =
    "new TLS handshakes use the new certificates; open connections are not affected";
pub(crate) const ROUTE_ADDED: &str =
    "matches requests after the reload, including those on existing connections";
pub(crate) const ROUTE_REMOVED: &str =
    "its requests match another route or get 404; its tunnels stay open";
pub(crate) const BACKEND_ADDED: &str =
    "receives its share of new tunnels; open tunnels are not moved";
pub(crate) const BACKEND_CHANGED: &str =
    "the new value applies to new tunnels; open tunnels are not moved";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::known_keys;

    #[test]
    fn every_key_takes_effect_some_time() {
        let leaves = known_keys().iter().filter(|key| {
            let below = |other: &String| {
                other.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            !known_keys().iter().any(below)
        });
        let mut count = 0;
        for key in leaves {
            assert!(takes_effect(key).is_some(), "{key}");
            count += 1;
        }
        assert!(count > 100, "{count}");
        assert_eq!(takes_effect("route[7].limits.idle"), Some(AppliesTo::Tunnels));
        assert_eq!(takes_effect("zebra.x"), None);
    }

    #[test]
    fn keys_that_differ_in_time_are_told_apart() {
        let told = of_keys(["log.level", "log.format"].into_iter());
        assert!(told.starts_with("level: takes effect immediately"), "{told}");
        assert!(told.contains(". format: requires a restart"), "{told}");
        assert_eq!(of_keys(["limits.idle"].into_iter()), AppliesTo::Tunnels.sentence());
    }
}
