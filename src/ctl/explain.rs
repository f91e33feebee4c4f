//! `ctl explain`: what would happen to a handshake.

use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable, sanitize};
use crate::protocol::ControlRequest;
use crate::protocol::response::Explanation;

/// Asks, and shows each question on the way.
pub fn explain(output: &Output, request: &ControlRequest) -> Result<(), CommandFailure> {
    output.put(request, |explained: Explanation| {
        let columns = [("CHECK", Align::Left), ("", Align::Left), ("RESULT", Align::Left)];
        let mut table = TextTable::new(&columns);
        for step in &explained.steps {
            let passes = if step.passed { "ok" } else { "NO" }.to_owned();
            let key = step.key.as_deref().map(|key| format!("  ({key})")).unwrap_or_default();
            table.row([step.check.clone(), passes, format!("{}{key}", step.result)]);
        }
        format!("{}{}\n", output.table(&table, "no step was told"), verdict(&explained))
    })
}

fn verdict(explained: &Explanation) -> String {
    if explained.admitted {
        return "=> it would be let in".to_owned();
    }
    let status = explained.status.map(|status| format!(" with {status}")).unwrap_or_default();
    let reason = explained.reason.as_deref().map(|reason| format!(": {}", sanitize(reason)));
    format!("=> it would be refused{status}{}", reason.unwrap_or_default())
}
