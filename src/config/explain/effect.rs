//! When a changed key takes effect, and what happens to open tunnels.

use crate::config::settings::DrainSettings;
use crate::config::settings::pool::OnBackendLoss;
use crate::config::toml::key_path::without_indices;
use crate::config::values::units::show_duration;

/// What a changed key applies to after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppliesTo {
    /// Takes effect immediately.
    Immediately,
    /// Connections accepted after the reload.
    Connections,
    /// Requests received after the reload, including those on existing connections. A handshake is
    /// a request.
    Requests,
    /// Tunnels opened after the reload.
    Tunnels,
    /// The next drain, including tunnels opened before the reload.
    Drain,
    /// Takes effect after a restart.
    Restart,
}

impl AppliesTo {
    /// All variants, in the order in which they are listed.
    pub const ALL: [Self; 6] = [
        Self::Immediately,
        Self::Connections,
        Self::Requests,
        Self::Tunnels,
        Self::Drain,
        Self::Restart,
    ];

    /// A short label for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Immediately => "immediately",
            Self::Connections => "new connections",
            Self::Requests => "new requests",
            Self::Tunnels => "new tunnels",
            Self::Drain => "next drain",
            Self::Restart => "restart",
        }
    }

    /// A sentence about open and new tunnels.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Immediately => "takes effect immediately; open tunnels stay open",
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

/// Describes when the changes of these keys take effect. Keys that differ in this are listed by
/// their names within the table.
pub(crate) fn describe<'k>(keys: impl Iterator<Item = (&'k str, AppliesTo)> + Clone) -> String {
    let mut times: Vec<AppliesTo> = keys.clone().map(|(_, applies_to)| applies_to).collect();
    times.sort();
    times.dedup();
    if let [only] = times.as_slice() {
        return only.sentence().to_owned();
    }
    let short_name = |key: &str| {
        let key = without_indices(key);
        key.split_once('.').map_or(key.clone(), |(_, name)| name.to_owned())
    };
    let describe_time = |time: &AppliesTo| {
        let names = keys.clone().filter(|(_, applies_to)| applies_to == time);
        let names: Vec<String> = names.map(|(key, _)| short_name(key)).collect();
        format!("{}: {}", names.join(", "), time.sentence())
    };
    times.iter().map(describe_time).collect::<Vec<_>>().join(". ")
}

/// Describes what happens to the tunnels of a removed backend.
pub(crate) fn describe_removed_backend(policy: OnBackendLoss, drain: &DrainSettings) -> String {
    let window = show_duration(drain.window);
    let tunnels = match policy {
        OnBackendLoss::Keep => "its tunnels stay open".to_owned(),
        OnBackendLoss::Drain => format!("its tunnels are closed over {window}"),
        OnBackendLoss::CloseAfter(after) => {
            let after = show_duration(after);
            format!("its tunnels still open after {after} are closed over {window}")
        }
    };
    format!("it receives no new tunnels; {tunnels}")
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
pub(crate) const POOL_ADDED: &str = "is used by the requests of routes that name it";
pub(crate) const POOL_REMOVED: &str = "no route uses it any more; its tunnels stay open";
pub(crate) const BACKEND_ADDED: &str =
    "receives its share of new tunnels; open tunnels are not moved";
pub(crate) const BACKEND_REMOVED_WITH_ROUTE: &str =
    "removed together with its route; its tunnels stay open";
pub(crate) const BACKEND_REMOVED_FROM_POOL: &str =
    "it receives no new tunnels; on_backend_loss of each route decides about its tunnels";
pub(crate) const BACKEND_CHANGED: &str =
    "the new value applies to new tunnels; open tunnels are not moved";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_different_times_are_listed_separately() {
        let keys = [("log.level", AppliesTo::Immediately), ("log.format", AppliesTo::Restart)];
        let text = describe(keys.into_iter());
        assert!(text.starts_with("level: takes effect immediately"), "{text}");
        assert!(text.contains(". format: requires a restart"), "{text}");
        let only = describe([("limits.idle", AppliesTo::Tunnels)].into_iter());
        assert_eq!(only, AppliesTo::Tunnels.sentence());
    }
}
