//! `ctl explain`: predicts the answer to a handshake.

use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable, sanitize};
use crate::control_protocol::ControlRequest;
use crate::control_protocol::response::Explanation;

/// Sends the request and prints the result of each check.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn explain(output: &Output, request: &ControlRequest) -> Result<(), CommandFailure> {
    output.print(request, |explanation: Explanation| {
        let columns = [("CHECK", Align::Left), ("", Align::Left), ("RESULT", Align::Left)];
        let mut table = TextTable::new(&columns);
        for step in &explanation.steps {
            let passed = match (step.passed, &step.assumption) {
                (true, None) => "ok",
                (true, Some(_)) => "??",
                (false, _) => "NO",
            };
            let passed = passed.to_owned();
            let key = step.key.as_deref().map(|key| format!("  ({key})")).unwrap_or_default();
            table.push([step.check.clone(), passed, format!("{}{key}", step.result)]);
        }
        format!("{}{}\n", output.table(&table, "no checks were reported"), verdict(&explanation))
    })
}

fn verdict(explanation: &Explanation) -> String {
    if explanation.admitted {
        let assumptions = explanation.steps.iter().filter_map(|step| step.assumption.as_deref());
        return match assumptions.map(sanitize).collect::<Vec<_>>().join(" and ") {
            none if none.is_empty() => "=> the handshake would be admitted".to_owned(),
            all => format!("=> the handshake would be admitted if {all}"),
        };
    }
    let status = explanation.status.map(|status| format!(" with {status}")).unwrap_or_default();
    let reason = explanation.reason.as_deref().map(|reason| format!(": {}", sanitize(reason)));
    format!("=> the handshake would be rejected{status}{}", reason.unwrap_or_default())
}
