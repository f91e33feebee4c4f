//! When to warn about a certificate that expires, has expired, or is not valid yet.

use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::telemetry::metrics::process_snapshot::CertificateValidity;
use crate::telemetry::timestamp::rfc3339;

/// A stage of a certificate's validity that is worth a warning; callers warn once per stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryStep {
    /// The validity period has not started.
    NotYetValid,
    /// The certificate expires within this many days.
    Days(u64),
    /// The validity period is over.
    Expired,
}

impl ExpiryStep {
    /// The stage of a certificate at `now`, in seconds since 1970; `None` if no warning is due.
    pub fn of(state: &CertificateValidity, now: u64) -> Option<Self> {
        if now < state.not_before {
            return Some(Self::NotYetValid);
        }
        // RFC 5280 4.1.2.5: the period includes `not_after`.
        let Some(left) = state.not_after.checked_sub(now) else { return Some(Self::Expired) };
        let lifetime = state.not_after.saturating_sub(state.not_before);
        // A certificate for one week must not warn "less than 7 days" from its first second on.
        // One that is renewed at a third of its lifetime is warned of only once that has failed.
        let part = if state.renews_itself { 4 } else { 2 };
        let due = |days: &&u64| left <= *days * DAY && lifetime > part * *days * DAY;
        STEPS.iter().find(due).map(|days| Self::Days(*days))
    }

    /// The warning for this stage, at the key of the certificate; `now` in seconds since 1970.
    pub fn warning(self, state: &CertificateValidity, now: u64) -> LateDiagnostic {
        LateDiagnostic { key: state.config_key.clone(), problem: self.problem(state, now) }
    }

    fn problem(self, state: &CertificateValidity, now: u64) -> String {
        let name = if state.name.is_empty() { "no name" } else { &state.name };
        let (from, until) = (rfc3339(state.not_before), rfc3339(state.not_after));
        let advice = match state.renews_itself {
            true => "its renewal fails: see `tidegate ctl certs`",
            false => "renew it",
        };
        match self {
            Self::NotYetValid => format!(
                "the certificate for {name} is not valid before {from}, and clients reject it; \
                 check the clock"
            ),
            Self::Expired => format!(
                "the certificate for {name} expired at {until}, and clients reject it; {advice}"
            ),
            Self::Days(_) => {
                let left = state.not_after.saturating_sub(now);
                let (count, unit) =
                    if left >= DAY { (left / DAY, "day") } else { (left / HOUR, "hour") };
                let plural = if count == 1 { "" } else { "s" };
                format!(
                    "the certificate for {name} expires in {count} {unit}{plural}, at {until}; \
                     {advice}"
                )
            }
        }
    }
}

/// Days before expiry at which to warn, ascending.
const STEPS: [u64; 5] = [1, 3, 7, 14, 30];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    fn valid_for(days: u64) -> CertificateValidity {
        let name = "chat.example".to_owned();
        CertificateValidity {
            index: 0,
            config_key: "certificate[0].chain".into(),
            name,
            more_names: Vec::new().into(),
            not_before: 1000 * DAY,
            not_after: (1000 + days) * DAY,
            renews_itself: false,
        }
    }

    // Requirements: CK02.
    #[test]
    fn expiry_warnings_are_reached_in_order() {
        let state = valid_for(90);
        let at = |left: u64| ExpiryStep::of(&state, state.not_after - left);
        assert_eq!(at(90 * DAY), None);
        assert_eq!(at(30 * DAY + 1), None);
        for (from, to) in [(30, 14), (14, 7), (7, 3), (3, 1), (1, 0)] {
            assert_eq!(at(from * DAY), Some(ExpiryStep::Days(from)));
            assert_eq!(at(to * DAY + 1), Some(ExpiryStep::Days(from)));
        }
        assert_eq!(at(0), Some(ExpiryStep::Days(1)));
        assert_eq!(ExpiryStep::of(&state, state.not_after + 1), Some(ExpiryStep::Expired));
        assert_eq!(ExpiryStep::of(&state, state.not_before), None);
        assert_eq!(ExpiryStep::of(&state, state.not_before - 1), Some(ExpiryStep::NotYetValid));
    }

    // Requirements: CK02.
    #[test]
    fn short_lived_certificates_do_not_warn_early() {
        for (days, first) in [(6, 1), (7, 3), (47, 14), (61, 30)] {
            let state = valid_for(days);
            assert_eq!(ExpiryStep::of(&state, state.not_before), None, "{days}");
            let hours = (state.not_before..state.not_after).step_by(HOUR as usize);
            let mut steps = hours.filter_map(|now| ExpiryStep::of(&state, now));
            assert_eq!(steps.next(), Some(ExpiryStep::Days(first)), "{days}");
        }
    }

    #[test]
    fn certificates_that_renew_themselves_warn_late() {
        let days = |days| {
            let state = CertificateValidity { renews_itself: true, ..valid_for(days) };
            let hours = (state.not_before..state.not_after).step_by(HOUR as usize);
            let mut steps = hours.filter_map(|now| ExpiryStep::of(&state, now));
            steps.next()
        };
        assert_eq!(days(90), Some(ExpiryStep::Days(14)));
        assert_eq!(days(64), Some(ExpiryStep::Days(14)));
        assert_eq!(days(6), Some(ExpiryStep::Days(1)));
        let state = CertificateValidity { renews_itself: true, ..valid_for(90) };
        let problem = ExpiryStep::Expired.problem(&state, state.not_after + 1);
        assert!(problem.ends_with("see `tidegate ctl certs`"), "{problem}");
    }

    // Requirements: CK02.
    #[test]
    fn expiry_warning_names_time_and_remedy() {
        let state = valid_for(90);
        let warning = |now| ExpiryStep::of(&state, now).unwrap().problem(&state, now);
        assert_eq!(
            warning(state.not_after - DAY - 1),
            "the certificate for chat.example expires in 1 day, at 1972-12-26T00:00:00Z; renew it"
        );
        assert!(warning(state.not_after - 2 * HOUR).contains("expires in 2 hours, at"));
        assert!(warning(state.not_after + 1).contains("expired at 1972-12-26T00:00:00Z"));
        assert!(warning(0).contains("not valid before 1972-09-27T00:00:00Z"));
    }
}
