//! The whole proxy, from an accepted connection to its record, over a simulated network: paused time,
//! seeded randomness, connections that stall and break at any byte, a dead and a returning backend, a
//! reload and a drain. A failure prints its seed, and the same seed gives the same run.
//!
//! `cargo test --test simulation` runs 200 seeds of each kind. More:
//! `TIDEGATE_SEEDS=100000 cargo test --release --test simulation`. One seed again: `TIDEGATE_SEED=7`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing the test is intended"
)]

mod check;
mod peer;
mod pipe;
#[path = "../properties/reference.rs"]
mod reference;
mod rng;
mod sim_net;
mod tls;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Builder;

use crate::world::{Defect, Outcome, Scenario, run};

fn simulate(scenario: Scenario) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(scenario))
}

/// The seeds to run: 200, the first `TIDEGATE_SEEDS`, or only `TIDEGATE_SEED`.
fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("TIDEGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEGATE_SEEDS").unwrap_or(200),
    }
}

fn check_seeds(scenario: impl Fn(u64) -> Scenario) {
    let mut tunnels = 0;
    for seed in seeds() {
        let scenario = scenario(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| simulate(scenario)))
            .unwrap_or_else(|_| panic!("{scenario:?} panicked"));
        if let Some(violation) = check::violation(&outcome) {
            let reasons: Vec<_> = check::reasons(&outcome).collect();
            panic!("{scenario:?}: {violation}\n{}\n{reasons:?}", outcome.trace.join("\n"));
        }
        tunnels += outcome.tunnels.iter().filter(|tunnel| tunnel.client.is_some()).count();
    }
    // A simulation in which nothing happens proves nothing.
    let seeds = seeds().count();
    assert!(tunnels >= seeds, "only {tunnels} tunnels were opened in {seeds} runs");
}

fn plain(seed: u64) -> Scenario {
    let faults_percent = [0, 10, 60][(seed % 3) as usize];
    Scenario { seed, tls: false, faults_percent, defect: Defect::None }
}

#[test]
fn invariants_hold_without_tls() {
    check_seeds(plain);
}

#[test]
fn invariants_hold_with_tls() {
    check_seeds(|seed| Scenario { tls: true, ..plain(seed) });
}

#[test]
fn same_seed_gives_same_trace() {
    for seed in 0..20 {
        assert_eq!(simulate(plain(seed)).trace, simulate(plain(seed)).trace, "seed {seed}");
    }
}

#[test]
fn planted_defects_are_found() {
    for defect in [Defect::LeakedPermit, Defect::ForeignByte] {
        let found = (0..20).filter(|seed| {
            let outcome = simulate(Scenario { defect, ..plain(*seed) });
            check::violation(&outcome).is_some()
        });
        assert!(found.count() > 0, "{defect:?} was not found");
    }
}
