//! Warnings about limits that are valid, and with which ordinary clients cannot send messages of the
//! maximum size.

use ws::{LimitAction, LimitKind, Limits, SessionPolicy, Side};

use super::settings::Settings;
use super::toml::late_diagnostic::LateDiagnostic;
use super::values::units::{ByteSize, show_duration};

impl Settings {
    /// One warning for each limit on fragments or age in the file that contradicts the limit on
    /// messages, first those of `[limits]`, then those of routes.
    pub fn limit_warnings(&self) -> Vec<LateDiagnostic> {
        let top_level = (String::new(), &*self.source_map.top_level_policy);
        let routes = self.routes.iter().enumerate();
        let routes = routes.map(|(index, route)| (format!("route[{index}]."), &*route.policy));
        let mut warnings = Vec::new();
        for (table, policy) in std::iter::once(top_level).chain(routes) {
            self.policy_warnings(&table, policy, &mut warnings);
        }
        warnings
    }

    /// The warnings for keys that are in one table. If a route takes a limit from `[limits]` but sets its own
    /// message limit, the route's message key is reported.
    fn policy_warnings(
        &self,
        table: &str,
        policy: &SessionPolicy,
        warnings: &mut Vec<LateDiagnostic>,
    ) {
        for side in Side::BOTH {
            for (kind, check) in [
                (LimitKind::Fragments, small_fragments as fn(&Limits, Side) -> Option<String>),
                (LimitKind::MessageAge, slow_messages),
            ] {
                let in_table = |kind: LimitKind| {
                    let key = format!("{table}{}", kind.key(side));
                    self.source_map.line(&key).is_some().then_some(key)
                };
                let in_file = self.source_map.line(kind.key(side)).is_some();
                // A default is derived from the message limit, so it cannot contradict it.
                let key = in_table(kind)
                    .or_else(|| in_file.then(|| in_table(LimitKind::Message)).flatten());
                if let (Some(key), Some(problem)) = (key, check(policy.limits(side), side)) {
                    warnings.push(LateDiagnostic { key, problem });
                }
            }
        }
    }
}

/// A message of the maximum size is closed earlier if its fragments are small.
fn small_fragments(limits: &Limits, side: Side) -> Option<String> {
    let (message, fragments) = (limits.message?, limits.fragments?);
    let closes = fragments.action == LimitAction::Close;
    let needed = message.max / fragments.max.max(1);
    (closes && needed > FRAGMENT_BYTES).then(|| {
        format!(
            "{} = {} with {} = {}: a message whose fragments are smaller than {} is closed before \
             it reaches that size (without {}, the number of fragments follows the size)",
            LimitKind::Message.key(side),
            ByteSize::new(message.max),
            LimitKind::Fragments.key(side),
            fragments.max,
            rounded(needed),
            LimitKind::Fragments.key(side),
        )
    })
}

/// A message of the maximum size is closed earlier if its sender is slow.
fn slow_messages(limits: &Limits, side: Side) -> Option<String> {
    let (message, age) = (limits.message?, limits.message_age?);
    let closes = age.action == LimitAction::Close;
    let needed = message.max / age.max.as_secs().max(1);
    (closes && needed > BYTES_PER_SECOND).then(|| {
        format!(
            "{} = {} with {} = {}: a sender slower than {}/s cannot send a message of that size in \
             time (without {}, the age follows the size)",
            LimitKind::Message.key(side),
            ByteSize::new(message.max),
            LimitKind::MessageAge.key(side),
            show_duration(age.max),
            rounded(needed),
            LimitKind::MessageAge.key(side),
        )
    })
}

/// In whole KiB, because the exact number says no more.
fn rounded(bytes: u64) -> ByteSize {
    ByteSize::new(bytes.next_multiple_of(1024))
}

/// Fragment size of common servers and libraries, for example of Tomcat (8 KiB) and of embedded
/// devices (4 KiB), in bytes.
const FRAGMENT_BYTES: u64 = 4096;
/// Upload rate of a slow mobile connection (512 kbit/s), in bytes per second.
const BYTES_PER_SECOND: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(limits: &str, route_limits: &str) -> Vec<(String, String)> {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = false\n[[route]]\nhost = \"*\"\n\
             origins = [\"*\"]\nbackends = [\"127.0.0.1:2\"]\n[route.limits]\n{route_limits}\n\
             [limits]\n{limits}\n"
        );
        let settings = Settings::parse(&text, "").unwrap();
        settings.limit_warnings().into_iter().map(|late| (late.key, late.problem)).collect()
    }

    #[test]
    fn contradicting_limits_are_reported_where_they_are_set() {
        assert_eq!(warnings("", ""), []);
        assert_eq!(warnings("message_from_client = \"256MiB\"", ""), []);
        assert_eq!(warnings("fragments_from_client = 4096", ""), []);
        let few = warnings("", "fragments_from_client = 1024");
        assert_eq!(few[0].0, "route[0].limits.fragments_from_client");
        assert!(few[0].1.contains("smaller than 16KiB"), "{few:?}");
        let short = warnings("message_age_from_client = \"2m\"", "");
        assert_eq!(short.len(), 1, "{short:?}");
        assert_eq!(short[0].0, "limits.message_age_from_client");
        assert!(short[0].1.contains("slower than 137KiB/s"), "{short:?}");
        let raised = warnings(
            "fragments_from_client = 1024\nmessage_from_client = \"1MiB\"",
            "message_from_client = \"64MiB\"",
        );
        assert_eq!(raised.len(), 1, "{raised:?}");
        assert_eq!(raised[0].0, "route[0].limits.message_from_client");
        let reporting = "fragments_from_client = { max = 10, action = \"report\" }";
        assert_eq!(warnings(reporting, ""), []);
    }
}
