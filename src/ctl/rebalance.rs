//! `ctl rebalance`.

use super::format::{age, count};
use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable};
use super::tunnel_args::RebalanceArgs;
use crate::control_protocol::ControlRequest;
use crate::control_protocol::response::{PoolRebalance, RebalanceResult, RebalanceStopped};

/// Starts, previews or stops rebalances.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn rebalance(output: &Output, args: RebalanceArgs) -> Result<(), CommandFailure> {
    let RebalanceArgs { pool, rate, dry_run, stop } = args;
    if stop {
        let request = ControlRequest::StopRebalance { pool };
        return output.print(&request, |stopped: RebalanceStopped| {
            if stopped.pools == 0 {
                return "no rebalance was in progress\n".to_owned();
            }
            let [pools, closed] = [(stopped.pools, "pool"), (stopped.closed, "tunnel")]
                .map(|(n, of)| count(n as u64, of));
            format!("rebalance of {pools} stopped; {closed} closed before\n")
        });
    }
    let per_second = rate.map(|rate| rate.0.get());
    let request = ControlRequest::Rebalance { pool, per_second, dry_run };
    output.print(&request, |result: RebalanceResult| {
        output.table(&table(&result, dry_run), "there is no pool")
    })
}

fn table(result: &RebalanceResult, dry_run: bool) -> TextTable {
    let right = |heading| (heading, Align::Right);
    let mut table = TextTable::new(&[
        ("POOL", Align::Left),
        right("TUNNELS"),
        right(if dry_run { "WOULD CLOSE" } else { "CLOSING" }),
        right("HELD"),
        right("TIME"),
        ("NOTE", Align::Left),
    ]);
    for row in &result.pools {
        let PoolRebalance { pool, tunnels, moving, held, per_second, joined, unmovable } = row;
        let millis = *moving as u64 * 1000 / u64::from((*per_second).max(1));
        let counts = [tunnels, moving, held].map(ToString::to_string);
        let [tunnels, moving, held] = counts;
        let joined = joined.then(|| format!("joins the one in progress, {per_second}/s"));
        let note = unmovable.clone().or(joined).unwrap_or_default();
        table.push([pool.clone(), tunnels, moving, held, age(millis), note]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_says_how_long_it_takes() {
        let pool = |pool: &str, moving, unmovable: Option<&str>| PoolRebalance {
            pool: pool.into(),
            tunnels: 9_000,
            moving,
            held: 7,
            per_second: 20,
            joined: pool == "room",
            unmovable: unmovable.map(str::to_owned),
        };
        let pools = vec![
            pool("chat", 2_250, None),
            pool("game", 0, Some("because")),
            pool("room", 20, None),
        ];
        let shown = table(&RebalanceResult { pools }, true).text(false);
        let lines: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["POOL", "TUNNELS", "WOULD", "CLOSE", "HELD", "TIME", "NOTE"]);
        assert_eq!(lines[1], ["chat", "9000", "2250", "7", "1m52s"]);
        assert_eq!(lines[2], ["game", "9000", "0", "7", "0ms", "because"]);
        assert_eq!(lines[3].join(" "), "room 9000 20 7 1s joins the one in progress, 20/s");
    }
}
