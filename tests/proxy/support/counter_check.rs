//! Looks at the counters after each thing that a test has caused.

use super::process::Proxy;
use super::scrape::Scrape;

/// Every family that says why something stopped.
const WHY: [&str; 3] = [
    "tidegate_connections_dropped_total",
    "tidegate_requests_rejected_total",
    "tidegate_tunnels_ended_total",
];

/// The counters, and what was wrong with them.
pub struct CounterCheck<'p> {
    proxy: &'p Proxy,
    /// As they stood when they were looked at last.
    pub last: Scrape,
    /// Records of things that stopped, so far.
    pub outcomes: usize,
    /// What was not as it should be.
    pub wrong: Vec<String>,
}

impl<'p> CounterCheck<'p> {
    /// Before anything has happened.
    pub async fn new(proxy: &'p Proxy) -> Self {
        Self { proxy, last: proxy.scrape().await, outcomes: 0, wrong: Vec::new() }
    }

    /// One more record was written, and this one series has grown, by one.
    pub async fn expect_one(&mut self, wanted: &str) {
        self.outcomes += 1;
        let record = self.proxy.nth_outcome(self.outcomes).await;
        let now = self.proxy.scrape().await;
        let grown = now.increases(&self.last, &WHY);
        if grown != [format!("{wanted} by 1")] {
            self.wrong.push(format!("{wanted}: {grown:?} {record}"));
        }
        self.last = now;
    }

    /// Nothing is open any more, and all of it was as it should be.
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
