//! `ctl sessions` and `ctl session`: lists and describes tunnels.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::args::{SessionOrder, SessionsArgs};
use super::format::{age, byte_rate, bytes, count, rate, round_trip};
use super::output::{CommandFailure, Output, write_line, write_text};
use super::table::{Align, TextTable, sanitize};
use crate::control_protocol::response::{SessionDetail, SessionList, SessionRow};
use crate::control_protocol::{ControlRequest, encode};

/// Lists tunnels.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn list(output: &Output, args: SessionsArgs) -> Result<(), CommandFailure> {
    let SessionsArgs { selection, sort, limit } = args;
    let request = ControlRequest::Sessions { selection: selection.into_selection(Vec::new()) };
    if output.json && sort.is_none() && limit.is_none() {
        return output.print(&request, |_: SessionList| String::new());
    }
    let before: Option<SessionList> = match sort {
        Some(SessionOrder::Rate) => Some(output.request(&request)?),
        Some(
            SessionOrder::Age | SessionOrder::Bytes | SessionOrder::Messages | SessionOrder::Rtt,
        )
        | None => None,
    };
    if before.is_some() {
        thread::sleep(RATE_INTERVAL);
    }
    let line = output.client.request(&request)?;
    let list: SessionList = output.parse(&request, &line)?;
    let rates = before.map(|before| SessionRates::between(&before, &list));
    let order = sorted_indices(&list.sessions, rates.as_ref(), sort, limit);
    if output.json {
        return write_line(&pick_rows(&line, &order));
    }
    let if_empty = match list.open {
        0 => "no tunnel is open".to_owned(),
        open => format!("none of the {} matches", count(open as u64, "open tunnel")),
    };
    let rows: Vec<&SessionRow> =
        order.iter().filter_map(|index| list.sessions.get(*index)).collect();
    let mut text = output.table(&table(&rows, rates.as_ref()), &if_empty);
    if !rows.is_empty() && rows.len() < list.open {
        text.push_str(&format!("{} of {}\n", rows.len(), count(list.open as u64, "open tunnel")));
    }
    write_text(&text)
}

/// Describes one tunnel.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn detail(output: &Output, session: u64) -> Result<(), CommandFailure> {
    output.print(&ControlRequest::Session { session }, |detail: SessionDetail| {
        let fields = detail_fields(&detail);
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", sanitize(value));
        fields.iter().map(line).collect()
    })
}

/// The labels and values of a description.
pub fn detail_fields(detail: &SessionDetail) -> Vec<(&'static str, String)> {
    let row = &detail.row;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let state = if row.closing { "closing" } else { "open" };
    vec![
        ("session", row.session.to_string()),
        ("state", format!("{state}, {} old", age(row.age_ms))),
        ("client", row.client.clone()),
        ("address", format!("{} (from {})", detail.address, detail.client_source)),
        ("listener", row.listener.clone()),
        ("protocol", detail.protocol.clone()),
        ("tls", or_none(&detail.tls)),
        ("sni", or_none(&detail.sni)),
        ("route", row.route.clone()),
        (
            "backend",
            format!(
                "{} (handshake in {})",
                row.backend,
                round_trip(Some(detail.backend_handshake_ms))
            ),
        ),
        ("host", detail.host.clone()),
        ("target", detail.target.clone()),
        ("user agent", or_none(&detail.user_agent)),
        ("request id", or_none(&detail.request_id)),
        ("subprotocol", or_none(&detail.subprotocol)),
        ("configuration", detail.generation.to_string()),
        ("up", traffic(row.up_bytes, row.up_messages)),
        ("down", traffic(row.down_bytes, row.down_messages)),
        ("client rtt", round_trip(row.client_rtt_ms)),
        ("backend rtt", round_trip(row.backend_rtt_ms)),
        ("client delayed", age(detail.client_delayed_ms)),
        ("backend delayed", age(detail.backend_delayed_ms)),
    ]
}

fn traffic(byte_count: u64, messages: u64) -> String {
    format!("{} in {}", bytes(byte_count), count(messages, "message"))
}

/// Rates of each tunnel, measured between two lists.
#[derive(Debug, Default)]
pub struct SessionRates(HashMap<u64, SessionRate>);

/// Rates of one tunnel, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SessionRate {
    /// Bytes from the client.
    pub up: f64,
    /// Bytes from the backend.
    pub down: f64,
    /// Messages in both directions.
    pub messages: f64,
}

impl SessionRate {
    /// Bytes in both directions.
    pub fn bytes(self) -> f64 {
        self.up + self.down
    }
}

impl SessionRates {
    /// Compares two lists. The traffic of a tunnel that is only in the second list counts from its
    /// opening.
    pub fn between(before: &SessionList, now: &SessionList) -> Self {
        let earlier: HashMap<u64, &SessionRow> =
            before.sessions.iter().map(|row| (row.session, row)).collect();
        let elapsed = now.now - before.now;
        let new = SessionRow::default();
        let rate = |row: &SessionRow| {
            // After a restart of the process the number may belong to another tunnel.
            let before =
                earlier.get(&row.session).copied().filter(|before| before.age_ms <= row.age_ms);
            let seconds = match before {
                Some(_) => elapsed,
                None => elapsed.min(row.age_ms as f64 / 1000.0),
            }
            .max(SECONDS_MIN);
            let before = before.unwrap_or(&new);
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let rate = SessionRate {
                up: per_second(row.up_bytes, before.up_bytes),
                down: per_second(row.down_bytes, before.down_bytes),
                messages: per_second(messages(row), messages(before)),
            };
            (row.session, rate)
        };
        Self(now.sessions.iter().map(rate).collect())
    }

    /// The rates of one tunnel; zero if it was not in the second list.
    pub fn of(&self, row: &SessionRow) -> SessionRate {
        self.0.get(&row.session).copied().unwrap_or_default()
    }
}

/// Bytes in both directions.
pub fn total(row: &SessionRow) -> u64 {
    row.up_bytes.saturating_add(row.down_bytes)
}

fn messages(row: &SessionRow) -> u64 {
    row.up_messages.saturating_add(row.down_messages)
}

/// The indices of the rows to show, in order.
fn sorted_indices(
    rows: &[SessionRow],
    rates: Option<&SessionRates>,
    sort: Option<SessionOrder>,
    limit: Option<usize>,
) -> Vec<usize> {
    let mut order: Vec<(usize, &SessionRow)> = rows.iter().enumerate().collect();
    let descending = |a: f64, b: f64| b.total_cmp(&a);
    let rate = |row: &SessionRow| rates.map_or(0.0, |rates| rates.of(row).bytes());
    let by = |sort: SessionOrder, a: &SessionRow, b: &SessionRow| -> Ordering {
        match sort {
            SessionOrder::Age => b.age_ms.cmp(&a.age_ms),
            SessionOrder::Bytes => total(b).cmp(&total(a)),
            SessionOrder::Messages => messages(b).cmp(&messages(a)),
            SessionOrder::Rate => descending(rate(a), rate(b)),
            SessionOrder::Rtt => {
                descending(a.client_rtt_ms.unwrap_or(-1.0), b.client_rtt_ms.unwrap_or(-1.0))
            }
        }
    };
    if let Some(sort) = sort {
        order.sort_by(|(_, a), (_, b)| by(sort, a, b));
    }
    order.truncate(limit.unwrap_or(usize::MAX));
    order.into_iter().map(|(index, _)| index).collect()
}

/// Keeps some rows of a response, each as received.
fn pick_rows(response: &[u8], order: &[usize]) -> Vec<u8> {
    let mut response: Value = serde_json::from_slice(response).unwrap_or_default();
    if let Some(Value::Array(rows)) = response.pointer_mut("/ok/sessions") {
        let mut all = std::mem::take(rows);
        let take = |index: &usize| all.get_mut(*index).map(Value::take);
        *rows = order.iter().filter_map(take).collect();
    }
    let mut line = encode(&response);
    line.pop();
    line
}

fn table(rows: &[&SessionRow], rates: Option<&SessionRates>) -> TextTable {
    use Align::{Left, Right};
    let mut columns =
        vec![("ID", Right), ("CLIENT", Left), ("ROUTE", Left), ("BACKEND", Left), ("AGE", Right)];
    if rates.is_some() {
        columns.extend([("UP/S", Right), ("DOWN/S", Right), ("MSGS/S", Right)]);
    }
    columns.extend([("UP", Right), ("DOWN", Right), ("MSGS UP", Right), ("MSGS DOWN", Right)]);
    columns.extend([("RTT", Right), ("BACKEND RTT", Right), ("", Left)]);
    let mut table = TextTable::new(&columns);
    for row in rows {
        let mut cells = vec![
            row.session.to_string(),
            row.client.clone(),
            row.route.clone(),
            row.backend.clone(),
            age(row.age_ms),
        ];
        if let Some(rate_of) = rates.map(|rates| rates.of(row)) {
            cells.extend([rate_of.up, rate_of.down].map(byte_rate));
            cells.push(rate(rate_of.messages));
        }
        cells.extend([row.up_bytes, row.down_bytes].map(bytes));
        cells.extend([row.up_messages, row.down_messages].map(|number| number.to_string()));
        cells.extend([row.client_rtt_ms, row.backend_rtt_ms].map(round_trip));
        cells.push(if row.closing { "closing" } else { "" }.to_owned());
        table.push(cells);
    }
    table
}

/// Time between the two lists that `--sort rate` compares.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// Shorter intervals are treated as this long, to avoid a division by zero.
const SECONDS_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(session: u64, age_ms: u64, up_bytes: u64) -> SessionRow {
        SessionRow { session, age_ms, up_bytes, up_messages: up_bytes / 10, ..Default::default() }
    }

    fn at(now: f64, sessions: Vec<SessionRow>) -> SessionList {
        SessionList { now, open: sessions.len(), sessions }
    }

    #[test]
    fn rates_are_measured_between_two_lists() {
        let before = at(10.0, vec![row(1, 5000, 1000), row(2, 5000, 1000)]);
        let now = at(12.0, vec![row(1, 7000, 3000), row(2, 100, 50), row(3, 500, 600)]);
        let rates = SessionRates::between(&before, &now);
        let up: Vec<f64> = now.sessions.iter().map(|row| rates.of(row).up).collect();
        // Number 2 was reused by a new tunnel; number 3 is new.
        assert_eq!(up, [1000.0, 500.0, 1200.0]);
        assert_eq!(rates.of(&now.sessions[0]).messages, 100.0);
        assert_eq!(rates.of(&row(9, 1, 1)), SessionRate::default());
    }

    #[test]
    fn lists_are_sorted_descending_and_limited() {
        let mut rows = vec![row(1, 300, 5), row(2, 200, 70), row(3, 100, 60)];
        rows[2].client_rtt_ms = Some(0.5);
        assert_eq!(sorted_indices(&rows, None, None, None), [0, 1, 2]);
        assert_eq!(sorted_indices(&rows, None, Some(SessionOrder::Age), Some(1)), [0]);
        assert_eq!(sorted_indices(&rows, None, Some(SessionOrder::Bytes), None), [1, 2, 0]);
        assert_eq!(sorted_indices(&rows, None, Some(SessionOrder::Messages), Some(2)), [1, 2]);
        assert_eq!(sorted_indices(&rows, None, Some(SessionOrder::Rtt), Some(1)), [2]);
        let response = br#"{"ok":{"now":1.5,"sessions":[{"session":1},{"session":2,"more":0}]}}"#;
        let text = r#"{"ok":{"now":1.5,"sessions":[{"more":0,"session":2}]}}"#;
        assert_eq!(String::from_utf8(pick_rows(response, &[1])).unwrap(), text);
    }
}
