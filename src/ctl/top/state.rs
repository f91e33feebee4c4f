//! The state of `top`, without I/O, so that tests can press keys. Rows are sorted when a sample
//! arrives or the order changes, not when the table is drawn.
//!
//! | mode | key | next mode |
//! | --- | --- | --- |
//! | `Table` | `/` | `Filter` |
//! | `Table` | enter | `Detail` of the selected tunnel |
//! | `Table` | `k` | `Confirm` for the selected tunnel |
//! | `Table` | `?` | `Help` |
//! | `Filter` | enter, or esc, which also clears the filter | `Table` |
//! | `Detail` | `k` | `Confirm` for the shown tunnel |
//! | `Detail` | any other | `Table` |
//! | `Confirm` | any; `y` closes the tunnel | `Table` |
//! | `Help` | any | `Table` |

use std::cmp::Ordering;

use super::feed::{TopCommand, TopSample};
use crate::control_protocol::response::{SessionDetail, SessionList, SessionRow};
use crate::ctl::sessions::{SessionRate, SessionRates, total};
use crate::ctl::status::StatusSummary;

/// Everything that is shown.
#[derive(Debug)]
pub struct TopState {
    /// Allows colours.
    pub colour: bool,
    /// Counts of the whole process.
    pub summary: StatusSummary,
    /// Rates of the whole process: messages, bytes up and bytes down per second.
    pub total_rates: [f64; 3],
    /// All tunnels, in the order of the response.
    rows: Vec<TunnelRow>,
    /// Indices into `rows` of the tunnels that match the filter, sorted.
    order: Vec<usize>,
    /// The sort column.
    pub sort: SortColumn,
    /// Reverses the default order of the column.
    pub reversed: bool,
    /// Text that client, route or backend must contain.
    pub filter: String,
    /// Keeps the current rows.
    pub paused: bool,
    /// How keys are interpreted.
    pub mode: TopMode,
    /// Index of the selected row in `order`.
    selected: usize,
    /// The selected tunnel, once the user has selected one.
    session: Option<u64>,
    /// Index in `order` of the first visible row.
    pub first: usize,
    /// Number of visible rows.
    pub page: usize,
    /// Outcome of the last action.
    pub message: Option<String>,
    /// Error of the last sample.
    pub error: Option<String>,
    /// The previous sample, for rates.
    last: SessionList,
}

/// A tunnel and its rates.
#[derive(Clone, Debug, Default)]
pub struct TunnelRow {
    /// The row of the response.
    pub info: SessionRow,
    /// Rates since the previous sample.
    pub rate: SessionRate,
}

/// How keys are interpreted, and which box covers the table.
#[derive(Clone, Debug, Default)]
pub enum TopMode {
    /// Keys select and sort.
    #[default]
    Table,
    /// Keys edit the filter.
    Filter,
    /// Asks whether to close a tunnel.
    Confirm(u64),
    /// Shows a tunnel; `None` until the response arrives.
    Detail(u64, Option<Result<Box<SessionDetail>, String>>),
    /// Shows the keys.
    Help,
}

/// What the caller must do after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopAction {
    /// Send a request to the proxy.
    Send(TopCommand),
    /// Exit.
    Quit,
}

/// The columns, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortColumn {
    /// Number of the tunnel.
    Id,
    /// Client key.
    Client,
    /// Name of the route.
    Route,
    /// Id of the backend.
    Backend,
    /// Time since the 101 response.
    Age,
    /// Bytes per second from the client.
    Up,
    /// Bytes per second from the backend.
    Down,
    /// Messages per second in both directions.
    Messages,
    /// Bytes since the 101 response.
    Total,
    /// Latest round-trip time to the client.
    Rtt,
}

impl SortColumn {
    /// All columns, from left to right.
    pub const ALL: [Self; 10] = [
        Self::Id,
        Self::Client,
        Self::Route,
        Self::Backend,
        Self::Age,
        Self::Up,
        Self::Down,
        Self::Messages,
        Self::Total,
        Self::Rtt,
    ];

    /// The heading, and the key that sorts by this column.
    pub fn heading(self) -> (&'static str, char) {
        match self {
            Self::Id => ("ID", 'n'),
            Self::Client => ("CLIENT", 'c'),
            Self::Route => ("ROUTE", 'r'),
            Self::Backend => ("BACKEND", 'b'),
            Self::Age => ("AGE", 'a'),
            Self::Up => ("UP/S", 'u'),
            Self::Down => ("DOWN/S", 'd'),
            Self::Messages => ("MSGS/S", 'm'),
            Self::Total => ("TOTAL", 't'),
            Self::Rtt => ("RTT", 'l'),
        }
    }

    /// The next or previous column; the column itself at the edge.
    fn adjacent(self, right: bool) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let at = if right { at + 1 } else { at.wrapping_sub(1) };
        Self::ALL.get(at).copied().unwrap_or(self)
    }

    /// The default order: numbers descending, names and tunnel numbers ascending.
    fn compare(self, a: &TunnelRow, b: &TunnelRow) -> Ordering {
        let descending = |a: f64, b: f64| b.total_cmp(&a);
        let rtt = |row: &TunnelRow| row.info.client_rtt_ms.unwrap_or(-1.0);
        match self {
            Self::Id => a.info.session.cmp(&b.info.session),
            Self::Client => a.info.client.cmp(&b.info.client),
            Self::Route => a.info.route.cmp(&b.info.route),
            Self::Backend => a.info.backend.cmp(&b.info.backend),
            Self::Age => b.info.age_ms.cmp(&a.info.age_ms),
            Self::Up => descending(a.rate.up, b.rate.up),
            Self::Down => descending(a.rate.down, b.rate.down),
            Self::Messages => descending(a.rate.messages, b.rate.messages),
            Self::Total => total(&b.info).cmp(&total(&a.info)),
            Self::Rtt => descending(rtt(a), rtt(b)),
        }
    }
}

impl TopState {
    /// The state before the first sample, sorted by message rate.
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            summary: StatusSummary::default(),
            total_rates: [0.0; 3],
            rows: Vec::new(),
            order: Vec::new(),
            sort: SortColumn::Messages,
            reversed: false,
            filter: String::new(),
            paused: false,
            mode: TopMode::default(),
            selected: 0,
            session: None,
            first: 0,
            page: 1,
            message: None,
            error: None,
            last: SessionList::default(),
        }
    }

    /// Applies a sample. While a tunnel is shown in detail, its description is requested again.
    pub fn add_sample(&mut self, sample: TopSample) -> Option<TopAction> {
        let TopSample { summary, sessions } = sample;
        self.error = None;
        self.total_rates = total_rates(&self.summary, &summary);
        self.summary = summary;
        if !self.paused {
            let rates = SessionRates::between(&self.last, &sessions);
            // The first sample has nothing to compare with, so all rates are zero.
            let is_first = self.last.now <= 0.0;
            let row = |info: &SessionRow| TunnelRow {
                rate: if is_first { SessionRate::default() } else { rates.of(info) },
                info: info.clone(),
            };
            self.rows = sessions.sessions.iter().map(row).collect();
            self.update_order();
        }
        self.last = sessions;
        match self.mode {
            TopMode::Detail(session, _) if !self.paused => {
                Some(TopAction::Send(TopCommand::Detail(session)))
            }
            TopMode::Confirm(_)
            | TopMode::Detail(..)
            | TopMode::Filter
            | TopMode::Help
            | TopMode::Table => None,
        }
    }

    /// Shows a description if its tunnel is still shown.
    pub fn set_detail(
        &mut self,
        session: u64,
        received: Result<Box<SessionDetail>, String>,
    ) -> Option<TopAction> {
        match &mut self.mode {
            TopMode::Detail(shown, detail) if *shown == session => *detail = Some(received),
            TopMode::Confirm(_)
            | TopMode::Detail(..)
            | TopMode::Filter
            | TopMode::Help
            | TopMode::Table => {}
        }
        None
    }

    /// Shows a message in the footer until the next key.
    pub fn set_message(&mut self, message: String) -> Option<TopAction> {
        self.message = Some(message);
        None
    }

    /// Shows why sampling failed, until a sample succeeds.
    pub fn set_error(&mut self, error: String) -> Option<TopAction> {
        self.error = Some(error);
        self.total_rates = [0.0; 3];
        None
    }

    /// Sorts by a column; reverses the order if it is the current one.
    pub fn sort_by(&mut self, column: SortColumn) {
        self.reversed = self.sort == column && !self.reversed;
        self.sort = column;
        self.update_order();
    }

    /// Sorts by the next or previous column.
    pub fn sort_by_adjacent(&mut self, right: bool) {
        self.sort = self.sort.adjacent(right);
        self.reversed = false;
        self.update_order();
    }

    /// Filters and sorts the rows. The selected tunnel stays selected while it is visible.
    pub fn update_order(&mut self) {
        let (rows, filter) = (&self.rows, self.filter.to_lowercase());
        let matches = |row: &TunnelRow| {
            let names = [&row.info.client, &row.info.route, &row.info.backend];
            filter.is_empty() || names.iter().any(|name| name.to_lowercase().contains(&filter))
        };
        self.order = (0..rows.len()).filter(|index| matches(&rows[*index])).collect();
        let (sort, reversed) = (self.sort, self.reversed);
        self.order.sort_by(|a, b| {
            let order = sort.compare(&rows[*a], &rows[*b]);
            if reversed { order.reverse() } else { order }
        });
        if let Some(session) = self.session {
            let found = self.order.iter().position(|index| rows[*index].info.session == session);
            // If the tunnel is gone, the row at the same index is selected.
            self.selected = found.unwrap_or(self.selected);
        }
        self.select(self.selected);
    }

    /// Selects the row at an index, or the last row.
    pub fn select(&mut self, index: usize) {
        self.selected = index.min(self.order.len().saturating_sub(1));
        let moved = self.selected > 0 || self.session.is_some();
        // Until the user selects a tunnel, the first row is selected, whichever tunnel it is.
        self.session = self.selected_row().map(|row| row.info.session).filter(|_| moved);
        let page = self.page.max(1);
        self.first = self.first.clamp((self.selected + 1).saturating_sub(page), self.selected);
        self.first = self.first.min(self.order.len().saturating_sub(page));
    }

    /// Moves the selection down, or up if negative.
    pub fn move_selection(&mut self, rows: isize) {
        self.select(self.selected.saturating_add_signed(rows));
        self.session = self.selected_row().map(|row| row.info.session);
    }

    /// The selected row, if any row is visible.
    pub fn selected_row(&self) -> Option<&TunnelRow> {
        self.order.get(self.selected).and_then(|index| self.rows.get(*index))
    }

    /// Index of the selected row on the page.
    pub fn selected_on_page(&self) -> Option<usize> {
        (!self.order.is_empty()).then(|| self.selected.saturating_sub(self.first))
    }

    /// The rows of a page of this height.
    pub fn visible(&mut self, page: usize) -> impl Iterator<Item = &TunnelRow> {
        self.page = page;
        self.select(self.selected);
        self.order.iter().skip(self.first).take(page).filter_map(|index| self.rows.get(*index))
    }

    /// The number of rows that match the filter, and of all rows.
    pub fn counts(&self) -> (usize, usize) {
        (self.order.len(), self.rows.len())
    }
}

/// Rates of the process between two samples; zero after a restart.
fn total_rates(before: &StatusSummary, now: &StatusSummary) -> [f64; 3] {
    let elapsed = now.now - before.now;
    if before.started != now.started || elapsed <= 0.0 {
        return [0.0; 3];
    }
    let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / elapsed;
    [
        per_second(before.messages, now.messages),
        per_second(before.up_bytes, now.up_bytes),
        per_second(before.down_bytes, now.down_bytes),
    ]
}

#[cfg(test)]
mod tests;
