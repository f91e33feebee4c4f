//! Compares the counters with the records after each event that a test causes.

use super::process::Proxy;
use super::scrape::Scrape;

/// The counter families that give a reason.
const WHY: [&str; 3] = [
    "tidegate_connections_dropped_total",
    "tidegate_requests_rejected_total",
    "tidegate_tunnels_ended_total",
];

/// The previous scrape, and the differences that were not expected.
pub struct CounterCheck<'p> {
    proxy: &'p Proxy,
    /// The most recent scrape.
    pub last: Scrape,
    /// Number of outcome records so far.
    pub outcomes: usize,
    /// Unexpected differences.
    pub wrong: Vec<String>,
}

impl<'p> CounterCheck<'p> {
    /// Takes the first scrape.
    pub async fn new(proxy: &'p Proxy) -> Self {
        Self { proxy, last: proxy.scrape().await, outcomes: 0, wrong: Vec::new() }
    }

    /// Waits for one more outcome record, and checks that only this series grew, by one.
    pub async fn expect_one(&mut self, wanted: &str) {
        self.outcomes += 1;
        let record = self.proxy.nth_end_record(self.outcomes).await;
        let now = self.proxy.scrape().await;
        let grown = now.increases(&self.last, &WHY);
        if grown != [format!("{wanted} by 1")] {
            self.wrong.push(format!("{wanted}: {grown:?} {record}"));
        }
        self.last = now;
    }

    /// Asserts that nothing is open any more and that no difference was unexpected.
    pub async fn finish(self) -> Scrape {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        self.proxy.wait_until_idle().await;
        let scrape = self.proxy.scrape().await;
        for gauge in ["tidegate_connections", "tidegate_tunnels"] {
            assert_eq!(scrape.sum(gauge, &[]), 0.0, "{gauge}");
        }
        let sum = |name| scrape.sum(name, &[]);
        let ended = sum("tidegate_tunnels_ended_total");
        assert_eq!(sum("tidegate_tunnels_opened_total"), ended);
        assert_eq!(sum("tidegate_tunnel_duration_seconds_count"), ended);
        scrape
    }
}
