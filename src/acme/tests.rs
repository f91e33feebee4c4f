//! Years of one certificate in simulated time: the authority is away, limits the rate or refuses, and the clock
//! of this machine jumps by a month.

use std::time::Duration;

use proptest::prelude::*;

use super::failure::{AcmeFailure, FailureScope};
use super::record::{Backoff, CertRecord};
use super::schedule::{CertFacts, backoff_end, order_time, record_failure};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const START: u64 = 20_000 * DAY;
/// More than in any run without a fault; with one, there may be one in each second of months.
const ATTEMPTS_MAX: usize = 10_000;
const DIRECTORY: &str = "https://ca.example/directory";

/// What goes wrong from one moment to another, in true time.
#[derive(Clone, Debug)]
struct Outage {
    from: u64,
    until: u64,
    kind: OutageKind,
}

#[derive(Clone, Copy, Debug)]
enum OutageKind {
    Away,
    Refusing,
    /// With this `Retry-After`, in seconds.
    Limiting(u64),
}

/// A moment, in true time, from which on the clock of the machine is wrong by so much.
type ClockJump = (u64, i64);

struct Simulation {
    /// The true time, in seconds since 1970.
    now: u64,
    skew: i64,
    lifetime: u64,
    outages: Vec<Outage>,
    jumps: Vec<ClockJump>,
    record: CertRecord,
    directory: Backoff,
    /// Of the certificate in use.
    validity: Option<(u64, u64)>,
    spread: f64,
    random: f64,
    /// In true time.
    attempts: Vec<u64>,
    issued: Vec<u64>,
    /// Seconds without a valid certificate, after the first one.
    expired: u64,
}

impl Simulation {
    fn new(lifetime: u64, outages: Vec<Outage>, jumps: Vec<ClockJump>, spread: f64) -> Self {
        Self {
            now: START,
            skew: 0,
            lifetime,
            outages,
            jumps,
            record: CertRecord::default(),
            directory: Backoff::default(),
            validity: None,
            spread,
            random: spread,
            attempts: Vec::new(),
            issued: Vec::new(),
            expired: 0,
        }
    }

    /// What the clock of the machine says.
    fn clock(&self) -> u64 {
        self.now.saturating_add_signed(self.skew)
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            let clock = self.clock();
            let facts = CertFacts {
                validity: self.validity,
                covers_names: true,
                record: &self.record,
                directory: DIRECTORY,
                spread: self.spread,
            };
            let at = order_time(&facts, clock)
                .max(backoff_end(&self.record.backoff, clock))
                .max(backoff_end(&self.directory, clock));
            if at <= clock {
                self.attempt();
                self.advance(1);
            } else {
                self.advance((at - clock).min(end - self.now));
            }
        }
    }

    /// Lets time pass, at most until a minute after the clock jumps: the process looks at it every minute.
    fn advance(&mut self, seconds: u64) {
        let next = self.jumps.iter().map(|(at, _)| *at).filter(|at| *at > self.now).min();
        let seconds = next.map_or(seconds, |next| seconds.min(next - self.now + MINUTE));
        let before = self.now;
        self.now += seconds;
        if let Some((_, until)) = self.validity {
            self.expired += self.now.saturating_sub(until.max(before));
        }
        if let Some((_, skew)) = self.jumps.iter().rfind(|(at, _)| *at <= self.now) {
            self.skew = *skew;
        }
    }

    fn attempt(&mut self) {
        self.attempts.push(self.now);
        assert!(self.attempts.len() < ATTEMPTS_MAX, "one attempt after the other");
        self.random = (self.random * 997.0 + 0.618).fract();
        let clock = self.clock();
        let outage = self.outages.iter().find(|of| (of.from..of.until).contains(&self.now));
        let failure = match outage.map(|of| of.kind) {
            Some(OutageKind::Away) => AcmeFailure::directory("cannot connect"),
            Some(OutageKind::Refusing) => AcmeFailure::certificate("no"),
            Some(OutageKind::Limiting(seconds)) => AcmeFailure {
                text: "too many".to_owned(),
                kind: "rateLimited".to_owned(),
                scope: FailureScope::Directory,
                retry_after: Some(Duration::from_secs(seconds)),
            },
            // As the check of issued certificates.
            None if self.now + self.lifetime <= clock => AcmeFailure::certificate("expired"),
            None => {
                self.validity = Some((self.now, self.now + self.lifetime));
                self.issued.push(self.now);
                self.record = CertRecord {
                    directory: DIRECTORY.to_owned(),
                    issued_at: clock,
                    ..CertRecord::default()
                };
                self.directory = Backoff::default();
                return;
            }
        };
        let lifetime = self.validity.map(|(from, until)| until - from);
        let (record, directory) = (&mut self.record, &mut self.directory);
        record_failure(&failure, record, directory, lifetime, self.random, clock);
    }

    /// The moments of the attempts that failed.
    fn failed(&self) -> Vec<u64> {
        self.attempts.iter().filter(|at| !self.issued.contains(at)).copied().collect()
    }

    /// The most moments of a list within any span of this many seconds.
    fn most_within(moments: &[u64], seconds: u64) -> usize {
        let within =
            |from: &u64| moments.iter().filter(|at| (*from..from + seconds).contains(at)).count();
        moments.iter().map(within).max().unwrap_or_default()
    }
}

fn lifetimes() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![160 * HOUR, 45 * DAY, 64 * DAY, 90 * DAY])
}

/// Outages of up to a day, with at least a day between them.
fn outages() -> impl Strategy<Value = Vec<Outage>> {
    let kind = prop_oneof![
        Just(OutageKind::Away),
        Just(OutageKind::Refusing),
        (1..DAY).prop_map(OutageKind::Limiting),
    ];
    let outage = (DAY..30 * DAY, MINUTE..DAY, kind);
    prop::collection::vec(outage, 0..30).prop_map(|parts| {
        let mut at = START;
        let mut outages = Vec::new();
        for (pause, duration, kind) in parts {
            at += pause;
            outages.push(Outage { from: at, until: at + duration, kind });
            at += duration;
        }
        outages
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    // Requirements: CK10.
    #[test]
    fn no_certificate_expires_while_the_ca_is_away_for_a_day(
        lifetime in lifetimes(),
        outages in outages(),
        spread in 0.0..1.0,
    ) {
        let mut simulation = Simulation::new(lifetime, outages, Vec::new(), spread);
        simulation.run_until(START + 400 * DAY);
        prop_assert_eq!(simulation.expired, 0);
        // Let's Encrypt allows five failed validations in an hour.
        prop_assert!(Simulation::most_within(&simulation.failed(), HOUR) <= 5);
        // Not renewed more often than at 60 % of the lifetime.
        let most = (400 * DAY).div_ceil(lifetime * 3 / 5) as usize + 1;
        prop_assert!(simulation.issued.len() <= most, "{} of {most}", simulation.issued.len());
    }

    // Requirements: CK10.
    #[test]
    fn clock_jumps_cause_neither_a_storm_nor_a_standstill(
        lifetime in lifetimes(),
        days in prop::collection::vec((5..40_u64, -30..=30_i64), 1..6),
        spread in 0.0..1.0,
    ) {
        let mut at = START;
        let mut jumps = Vec::new();
        for (pause, skew) in days {
            at += pause * DAY;
            jumps.push((at, skew * DAY as i64));
        }
        // In the end the clock is right.
        at += 10 * DAY;
        jumps.push((at, 0));
        let mut simulation = Simulation::new(lifetime, Vec::new(), jumps, spread);
        // A failure at what the wrong clock took for this moment delays by eight hours and a quarter of that.
        simulation.run_until(at + 10 * HOUR + HOUR);
        let (_, until) = simulation.validity.unwrap();
        prop_assert!(until > simulation.now, "expired although the clock was right again");
        // The clock may jump just after a renewal.
        prop_assert!(Simulation::most_within(&simulation.failed(), HOUR) <= 5);
        prop_assert!(Simulation::most_within(&simulation.attempts, DAY) <= 10);
        let expired = simulation.expired;
        simulation.run_until(at + 200 * DAY);
        prop_assert_eq!(simulation.expired, expired);
    }
}

// Requirements: CK10.
#[test]
fn ca_that_returns_after_a_day_is_asked_within_the_hour() {
    let outage = Outage { from: START, until: START + DAY, kind: OutageKind::Away };
    for tenth in 0..10 {
        let spread = f64::from(tenth) / 10.0;
        let mut simulation = Simulation::new(90 * DAY, vec![outage.clone()], Vec::new(), spread);
        simulation.run_until(START + 2 * DAY);
        let first = simulation.issued[0];
        // The longest delay has a random part.
        assert!(first <= START + DAY + HOUR * 5 / 4, "{} s late", first - START - DAY);
        assert!(simulation.attempts.len() < 40, "{} attempts", simulation.attempts.len());
    }
}
