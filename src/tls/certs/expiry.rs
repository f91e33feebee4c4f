//! How near the end of a certificate is, and from when on that is worth a word.

use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::telemetry::metrics::process_snapshot::CertificateState;
use crate::telemetry::timestamp::moment;

/// What an operator is to be told of; each is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryStep {
    /// Its time has not come.
    NotYet,
    /// No more than so many days are left.
    Days(u64),
    /// Its time is over.
    Over,
}

impl ExpiryStep {
    /// Where a certificate stands at this moment, in seconds since 1970; `None`: nothing is to be
    /// told.
    pub fn of(state: &CertificateState, now: u64) -> Option<Self> {
        if now < state.not_before {
            return Some(Self::NotYet);
        }
        // RFC 5280 4.1.2.5: the last moment belongs to it.
        let Some(left) = state.not_after.checked_sub(now) else { return Some(Self::Over) };
        let whole = state.not_after.saturating_sub(state.not_before);
        // Who is made for a week is renewed within it, and not late at each beginning.
        let due = |days: &&u64| left <= *days * DAY && whole > 2 * *days * DAY;
        STEPS.iter().find(due).map(|days| Self::Days(*days))
    }

    /// The same for a person, at its place in the configuration.
    pub fn warning(self, state: &CertificateState, now: u64) -> LateDiagnostic {
        let key = format!("certificate[{}].chain", state.index);
        LateDiagnostic { key, problem: self.problem(state, now) }
    }

    fn problem(self, state: &CertificateState, now: u64) -> String {
        let name = if state.name.is_empty() { "no name" } else { &state.name };
        let (from, until) = (moment(state.not_before), moment(state.not_after));
        match self {
            Self::NotYet => format!(
                "the certificate for {name} is not valid before {from}, and clients refuse it; is \
                 the clock right?"
            ),
            Self::Over => format!(
                "the certificate for {name} expired at {until}, and clients refuse it: renew it"
            ),
            Self::Days(_) => {
                let left = state.not_after.saturating_sub(now);
                let (count, unit) =
                    if left >= DAY { (left / DAY, "day") } else { (left / HOUR, "hour") };
                let plural = if count == 1 { "" } else { "s" };
                format!(
                    "the certificate for {name} ends in {count} {unit}{plural}, at {until}: renew it"
                )
            }
        }
    }
}

/// Days before the end at which it is told of, least first.
const STEPS: [u64; 5] = [1, 3, 7, 14, 30];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(days: u64) -> CertificateState {
        let name = "chat.example".to_owned();
        CertificateState { index: 0, name, not_before: 1000 * DAY, not_after: (1000 + days) * DAY }
    }

    // Requirements: CK02.
    #[test]
    fn expiry_warnings_are_reached_in_order() {
        let state = lasting(90);
        let at = |left: u64| ExpiryStep::of(&state, state.not_after - left);
        assert_eq!(at(90 * DAY), None);
        assert_eq!(at(30 * DAY + 1), None);
        for (from, to) in [(30, 14), (14, 7), (7, 3), (3, 1), (1, 0)] {
            assert_eq!(at(from * DAY), Some(ExpiryStep::Days(from)));
            assert_eq!(at(to * DAY + 1), Some(ExpiryStep::Days(from)));
        }
        assert_eq!(at(0), Some(ExpiryStep::Days(1)));
        assert_eq!(ExpiryStep::of(&state, state.not_after + 1), Some(ExpiryStep::Over));
        assert_eq!(ExpiryStep::of(&state, state.not_before), None);
        assert_eq!(ExpiryStep::of(&state, state.not_before - 1), Some(ExpiryStep::NotYet));
    }

    // Requirements: CK02.
    #[test]
    fn short_lived_certificates_do_not_warn_early() {
        for (days, first) in [(6, 1), (7, 3), (47, 14), (61, 30)] {
            let state = lasting(days);
            assert_eq!(ExpiryStep::of(&state, state.not_before), None, "{days}");
            let told = (state.not_before..state.not_after).step_by(HOUR as usize);
            let mut told = told.filter_map(|now| ExpiryStep::of(&state, now));
            assert_eq!(told.next(), Some(ExpiryStep::Days(first)), "{days}");
        }
    }

    // Requirements: CK02.
    #[test]
    fn expiry_warning_names_time_and_remedy() {
        let state = lasting(90);
        let told = |now| ExpiryStep::of(&state, now).unwrap().problem(&state, now);
        assert_eq!(
            told(state.not_after - DAY - 1),
            "the certificate for chat.example ends in 1 day, at 1972-12-26T00:00:00Z: renew it"
        );
        assert!(told(state.not_after - 2 * HOUR).contains("ends in 2 hours, at"));
        assert!(told(state.not_after + 1).contains("expired at 1972-12-26T00:00:00Z"));
        assert!(told(0).contains("not valid before 1972-09-27T00:00:00Z"));
    }
}
