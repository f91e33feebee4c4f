//! When a certificate is ordered, as pure functions of the time of day. It may jump in either direction: a moment in
//! the future at which something is said to have happened shows that, and does not count.

use super::failure::{AcmeFailure, FailureScope};
use super::record::{Backoff, CertRecord, LastError, RenewalWindow};

/// What is known about one certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertFacts<'a> {
    /// Start and end of the validity of the certificate in use, in seconds since 1970; `None` if there is none.
    pub validity: Option<(u64, u64)>,
    /// Whether it is for all names that are configured.
    pub covers_names: bool,
    /// What was stored about it.
    pub record: &'a CertRecord,
    /// The directory that is configured.
    pub directory: &'a str,
    /// The certificate's place within any span of time, in `[0, 1)`, so that many are not renewed at once.
    pub spread: f64,
}

/// The moment at which a certificate is due to be ordered, in seconds since 1970, without any back-off.
pub fn order_time(facts: &CertFacts<'_>, now: u64) -> u64 {
    let record = facts.record;
    if record.is_requested {
        return 0;
    }
    let lifetime = facts.validity.map_or(0, |(from, until)| until.saturating_sub(from));
    // The files may be in use only a moment after they were written. An authority whose times are wrong, or a clock
    // that is, must not cause one order after another.
    let after_last = |wait: u64| if record.issued_at <= now { record.issued_at + wait } else { 0 };
    // The files of another certificate may keep an issued one from being used, so it is not ordered again at once.
    let issued_lifetime = record.valid_until.saturating_sub(record.valid_from);
    let unused = SWAP_SECONDS.max((issued_lifetime / 3).min(RENEWED_SECONDS_MIN));
    let Some((_, until)) = facts.validity else { return after_last(unused) };
    let is_in_use = record.valid_until <= until;
    let other_directory = !record.directory.is_empty() && record.directory != facts.directory;
    if other_directory || !facts.covers_names {
        return after_last(if is_in_use { OTHERS_SECONDS.min(lifetime / 3) } else { unused });
    }
    let planned = match &record.renewal_window {
        Some(window) => suggested(window, facts.spread).min(until - lifetime / 6),
        None => until - lifetime / 3 - part(lifetime / 30, facts.spread),
    };
    planned.max(after_last(match is_in_use {
        true => (lifetime / 3).min(RENEWED_SECONDS_MIN),
        false => issued_lifetime / 3,
    }))
}

/// A moment of the window that the authority suggests (RFC 9773 4.2).
fn suggested(window: &RenewalWindow, spread: f64) -> u64 {
    window.start.saturating_add(part(window.end.saturating_sub(window.start), spread))
}

/// Whether, and for how long, a failure still delays the next attempt: the moment when it ends.
pub fn backoff_end(backoff: &Backoff, now: u64) -> u64 {
    match backoff.failed_at <= now {
        true => backoff.failed_at.saturating_add(backoff.delay),
        // The clock has been set back.
        false => 0,
    }
}

/// Seconds until the next attempt after this many failures in a row. `lifetime` is that of the certificate in use,
/// in seconds: the shorter it is, the sooner it is tried again. `random` is in `[0, 1)`.
fn delay(failures: u32, lifetime: Option<u64>, longest: u64, random: f64) -> u64 {
    let shortest = lifetime.map_or(DELAY_MIN, |lifetime| DELAY_MIN.min(lifetime / 60)).max(1);
    let longest = lifetime.map_or(longest, |lifetime| longest.min(lifetime / 6)).max(shortest);
    let grown = 3_u64.saturating_pow(failures.saturating_sub(1)).saturating_mul(shortest);
    let delay = grown.min(longest);
    // Three quarters to five quarters.
    (delay - delay / 4 + part(delay / 2, random)).max(1)
}

/// Records a failure, and for how long it delays the next attempts: those of this certificate, or those of all of
/// them. `lifetime` and `random` are those of [`delay`].
pub fn record_failure(
    failure: &AcmeFailure,
    record: &mut CertRecord,
    directory: &mut Backoff,
    lifetime: Option<u64>,
    random: f64,
    now: u64,
) {
    record.last_error = Some(LastError { at: now, text: failure.text.clone() });
    let asked = failure.retry_after.map_or(0, |delay| delay.as_secs());
    let is_limited = failure.kind == RATE_LIMITED;
    if is_limited || failure.scope == FailureScope::Certificate {
        let failures = record.backoff.failures.saturating_add(1);
        let delay = delay(failures, lifetime, DELAY_MAX, random);
        let delay = delay.max(asked.min(RETRY_AFTER_MAX));
        record.backoff = Backoff { failures, failed_at: now, delay };
    }
    if is_limited {
        // The limit may be one of this name only.
        *directory = Backoff { failed_at: now, delay: asked.min(DELAY_MIN), ..*directory };
    } else if failure.scope == FailureScope::Directory {
        let failures = directory.failures.saturating_add(1);
        let delay = delay(failures, lifetime, DIRECTORY_DELAY_MAX, random);
        *directory = Backoff { failures, failed_at: now, delay: delay.max(asked.min(DAY)) };
    }
}

/// When the suggestion of the authority is to be asked for. `certificate` identifies the one in use.
pub fn renewal_info_time(record: &CertRecord, certificate: &str, now: u64) -> u64 {
    if record.renewal_info_for != certificate || record.renewal_info_at > now {
        return 0;
    }
    record.renewal_info_at.saturating_add(record.renewal_info_every)
}

/// The place of a certificate within any span of time, in `[0, 1)`: always the same for one name.
pub fn spread_of(name: &str) -> f64 {
    // FNV-1a, whose high bits are mixed well enough for this.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// A part of a number of seconds.
fn part(seconds: u64, of: f64) -> u64 {
    (seconds as f64 * of) as u64
}

/// The first delay after a failure, in seconds. With a factor of three, there are at most five attempts in the first
/// hour, which is how many failures Let's Encrypt allows for one name.
const DELAY_MIN: u64 = 60;
/// The longest delay after failures of one certificate.
const DELAY_MAX: u64 = 8 * 3600;
/// The longest delay after failures of the authority.
const DIRECTORY_DELAY_MAX: u64 = 3600;
/// The longest delay that an authority can ask for, in seconds: limits of Let's Encrypt hold for a week at most.
const RETRY_AFTER_MAX: u64 = 7 * DAY;
const DAY: u64 = 86_400;
/// The type of the problem of too many requests or certificates.
const RATE_LIMITED: &str = "rateLimited";
/// How soon an issued certificate is in use, at the latest.
const SWAP_SECONDS: u64 = 60;
/// How soon a certificate for other names, or of another directory, is replaced; a third of its lifetime if that is
/// less. Processes with one folder and different settings replace each other's certificates, and authorities limit
/// their number: Let's Encrypt issues 50 per registered domain in a week.
const OTHERS_SECONDS: u64 = 3600;
/// How soon a certificate may be renewed, whatever the authority suggests; a third of its lifetime if that is less.
const RENEWED_SECONDS_MIN: u64 = 6 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 20_000 * DAY;
    const CA: &str = "https://ca/directory";

    fn issued(at: u64) -> CertRecord {
        CertRecord { directory: CA.to_owned(), issued_at: at, ..CertRecord::default() }
    }

    fn facts(record: &CertRecord, validity: Option<(u64, u64)>) -> CertFacts<'_> {
        CertFacts { validity, covers_names: true, record, directory: CA, spread: 0.0 }
    }

    #[test]
    fn certificates_are_renewed_at_a_third_of_their_lifetime() {
        for days in [6, 45, 64, 90] {
            let record = issued(NOW);
            let validity = (NOW, NOW + days * DAY);
            let facts = facts(&record, Some(validity));
            let at = order_time(&facts, NOW);
            assert_eq!(at, NOW + days * DAY * 2 / 3);
            let last = order_time(&CertFacts { spread: 0.999, ..facts }, NOW);
            assert!(last < at && last > at - days * DAY / 29, "{days}");
        }
        let record = issued(NOW);
        assert_eq!(order_time(&facts(&record, Some((NOW, NOW + 60))), NOW), NOW + 40);
    }

    #[test]
    fn missing_certificates_are_due_at_once() {
        let now = NOW;
        assert!(order_time(&facts(&CertRecord::default(), None), now) <= now);
        let validity = Some((now - DAY, now + 80 * DAY));
        let record = issued(now - DAY);
        let good = facts(&record, validity);
        assert!(order_time(&good, now) > now);
        assert!(order_time(&CertFacts { covers_names: false, ..good }, now) <= now);
        assert!(order_time(&CertFacts { directory: "https://other", ..good }, now) <= now);
        // Files that someone has put there.
        let record = CertRecord { directory: String::new(), ..record };
        assert!(order_time(&facts(&record, validity), now) > now);
    }

    #[test]
    fn failed_order_of_an_operator_stays_due() {
        let validity = Some((NOW, NOW + 90 * DAY));
        let record = CertRecord { is_requested: true, ..issued(NOW) };
        assert_eq!(order_time(&facts(&record, validity), NOW), 0);
    }

    #[test]
    fn suggestions_of_the_authority_come_first() {
        let with = |start, end| CertRecord {
            renewal_window: Some(RenewalWindow { start, end, explanation: None }),
            ..issued(NOW)
        };
        let validity = Some((NOW, NOW + 90 * DAY));
        let at = |record: &CertRecord, spread| {
            order_time(&CertFacts { spread, ..facts(record, validity) }, NOW)
        };
        let record = with(NOW + 50 * DAY, NOW + 52 * DAY);
        assert_eq!(at(&record, 0.0), NOW + 50 * DAY);
        assert_eq!(at(&record, 0.5), NOW + 51 * DAY);
        // At once: after an incident.
        assert_eq!(at(&with(NOW - DAY, NOW), 0.0), NOW + 6 * 3600);
        // Too late, or the wrong way round.
        assert_eq!(at(&with(NOW + 400 * DAY, NOW + 401 * DAY), 0.0), NOW + 75 * DAY);
        assert_eq!(at(&with(NOW + 40 * DAY, NOW), 0.9), NOW + 40 * DAY);
    }

    #[test]
    fn clock_jumps_cause_no_storm() {
        let month = 30 * DAY;
        // Set forward: due, and after each order not again for hours.
        let later = NOW + 12 * month;
        let validity = Some((NOW, NOW + 6 * DAY));
        assert!(order_time(&facts(&issued(NOW), validity), later) <= later);
        assert!(order_time(&facts(&issued(later), validity), later) >= later + 6 * 3600);
        assert!(order_time(&facts(&issued(later), None), later) >= later + 60);
        // Set back: neither the order nor the failure has happened yet.
        let earlier = NOW - month;
        assert!(order_time(&facts(&issued(NOW), None), earlier) <= earlier);
        let failed = Backoff { failures: 3, failed_at: NOW, delay: 600 };
        assert_eq!(backoff_end(&failed, NOW), NOW + 600);
        assert!(backoff_end(&failed, earlier) <= earlier);
        let record = CertRecord {
            renewal_info_for: "x".to_owned(),
            renewal_info_at: NOW,
            renewal_info_every: 3600,
            ..issued(NOW)
        };
        assert_eq!(renewal_info_time(&record, "x", NOW), NOW + 3600);
        assert!(renewal_info_time(&record, "x", earlier) <= earlier);
        assert!(renewal_info_time(&record, "y", NOW) <= NOW);
    }

    #[test]
    fn issued_certificate_that_is_not_used_is_not_ordered_again() {
        let valid = |at| CertRecord { valid_from: at, valid_until: at + 90 * DAY, ..issued(at) };
        let old = (NOW - 61 * DAY, NOW + 29 * DAY);
        assert!(order_time(&facts(&valid(NOW - 61 * DAY), Some(old)), NOW) <= NOW);
        assert_eq!(order_time(&facts(&valid(NOW), Some(old)), NOW), NOW + 30 * DAY);
        let record = valid(NOW);
        let other_names = CertFacts { covers_names: false, ..facts(&record, Some(old)) };
        assert_eq!(order_time(&other_names, NOW), NOW + 6 * 3600);
        // The first one; its files may also have been deleted.
        assert_eq!(order_time(&facts(&valid(NOW), None), NOW), NOW + 6 * 3600);
    }

    #[test]
    fn processes_with_different_settings_order_once_an_hour() {
        let valid = |at, seconds| {
            let record = CertRecord { valid_from: at, valid_until: at + seconds, ..issued(at) };
            (record, Some((at, at + seconds)))
        };
        for (lifetime, pause) in [(90 * DAY, 3600), (6 * DAY, 3600), (60, 20)] {
            // Another process has just ordered what both of them use.
            let (record, validity) = valid(NOW, lifetime);
            let good = facts(&record, validity);
            for facts in [
                CertFacts { covers_names: false, ..good },
                CertFacts { directory: "https://other", ..good },
            ] {
                assert_eq!(order_time(&facts, NOW), NOW + pause, "{lifetime}");
            }
        }
        // Names that are changed later are ordered at once.
        let (record, validity) = valid(NOW - 3600, 90 * DAY);
        let changed = CertFacts { covers_names: false, ..facts(&record, validity) };
        assert!(order_time(&changed, NOW) <= NOW);
    }

    #[test]
    fn delays_grow_to_their_maximum() {
        let delays: Vec<u64> = (1..9).map(|n| delay(n, None, DELAY_MAX, 0.5)).collect();
        assert_eq!(delays, [60, 180, 540, 1620, 4860, 14_580, 28_800, 28_800]);
        assert_eq!(delay(u32::MAX, None, DELAY_MAX, 0.0), 21_600);
        let within =
            |failures: u32| (1..=failures).map(|n| delay(n, None, DELAY_MAX, 0.0)).sum::<u64>();
        // The fifth failure is followed by none within the first hour.
        assert!(within(5) > 3600, "{}", within(5));
        // A certificate for one minute.
        assert_eq!([1, 2, 9].map(|n| delay(n, Some(60), DELAY_MAX, 0.5)), [1, 3, 10]);
        // A certificate for six days is tried again many times before it expires.
        assert_eq!(delay(9, Some(6 * DAY), DELAY_MAX, 0.5), 28_800);
    }

    #[test]
    fn failures_delay_what_they_concern() {
        let after = |failure: AcmeFailure, times: u64| {
            let (mut record, mut directory) = (issued(NOW), Backoff::default());
            for n in 0..times {
                record_failure(&failure, &mut record, &mut directory, None, 0.5, NOW + n);
            }
            (record.backoff.delay, directory.delay, directory.failures)
        };
        let asked = |seconds, failure| AcmeFailure {
            retry_after: Some(std::time::Duration::from_secs(seconds)),
            ..failure
        };
        let (certificate, directory) = (AcmeFailure::certificate("x"), AcmeFailure::directory("x"));
        let limited = AcmeFailure { kind: "rateLimited".to_owned(), ..directory.clone() };
        assert_eq!(after(certificate.clone(), 2), (180, 0, 0));
        assert_eq!(after(directory.clone(), 2), (0, 180, 2));
        // An authority that is away for a day is asked again within the hour after it is back.
        assert_eq!(after(directory.clone(), 20), (0, 3600, 20));
        assert_eq!(after(asked(7200, directory), 1), (0, 7200, 1));
        assert_eq!(after(asked(86_400, limited.clone()), 1), (86_400, 60, 0));
        assert_eq!(after(asked(u64::MAX, limited), 1), (7 * DAY, 60, 0));
        assert_eq!(after(asked(10, certificate), 1), (60, 0, 0));
    }

    #[test]
    fn names_are_spread_evenly() {
        let mut counts = [0; 10];
        for n in 0..1000 {
            counts[(spread_of(&format!("host-{n}.example")) * 10.0) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (60..150).contains(count)), "{counts:?}");
        assert_eq!(spread_of("a.example").to_bits(), spread_of("a.example").to_bits());
    }
}
