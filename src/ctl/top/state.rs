//! What `top` knows and shows: pure, so that a test can press its keys. Rows are sorted when they
//! come or when the order changes, never for a drawing.

use std::cmp::Ordering;

use super::feed::{TopCommand, TopSample};
use crate::ctl::sessions::{SessionRate, SessionRates, total};
use crate::ctl::status::StatusSummary;
use crate::protocol::response::{SessionDetail, SessionList, SessionRow};

/// Everything.
#[derive(Debug)]
pub struct TopState {
    /// Colours may be used.
    pub colour: bool,
    /// What is over the table.
    pub headline: StatusSummary,
    /// What all tunnels together move a second, by the headline: messages, bytes up and down.
    pub flow: [f64; 3],
    /// All tunnels, as they came.
    rows: Vec<TunnelRow>,
    /// Those that are shown, in their order; indices of `rows`.
    order: Vec<usize>,
    /// By what they are sorted.
    pub sort: SortColumn,
    /// The least of it first.
    pub reversed: bool,
    /// What client, route or backend must have in it.
    pub filter: String,
    /// The table stands still.
    pub paused: bool,
    /// What keys mean.
    pub mode: TopMode,
    /// Place of the selected row in the order, and its tunnel.
    selected: usize,
    session: Option<u64>,
    /// The first row that is drawn.
    pub first: usize,
    /// How many rows fit.
    pub page: usize,
    /// What was done last.
    pub said: Option<String>,
    /// The process does not answer; why.
    pub trouble: Option<String>,
    /// What came last, to make rates of it.
    last: SessionList,
}

/// A tunnel and what it moves.
#[derive(Clone, Debug, Default)]
pub struct TunnelRow {
    /// As it came.
    pub of: SessionRow,
    /// Since the look before.
    pub rate: SessionRate,
}

/// What keys mean, and what is shown over the table.
#[derive(Clone, Debug, Default)]
pub enum TopMode {
    /// They move, sort, and so on.
    #[default]
    Table,
    /// They are letters of the filter.
    Filter,
    /// Whether to close a tunnel.
    Confirm(u64),
    /// All about a tunnel, or why there is nothing, once it is there.
    Detail(u64, Option<Result<Box<SessionDetail>, String>>),
    /// The keys.
    Help,
}

/// Something for others to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopAction {
    /// Ask the process.
    Ask(TopCommand),
    /// Leave.
    Quit,
}

/// The columns, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortColumn {
    /// Number of the tunnel.
    Id,
    /// Whose it is.
    Client,
    /// Its route.
    Route,
    /// Its backend.
    Backend,
    /// Since its 101.
    Age,
    /// Bytes a second up.
    Up,
    /// And down.
    Down,
    /// Messages a second.
    Messages,
    /// Bytes since its 101.
    Total,
    /// The client's last round trip.
    Rtt,
}

impl SortColumn {
    /// From left to right.
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

    /// Its heading, and the key that sorts by it.
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

    /// The column beside it, if there is one.
    fn beside(self, right: bool) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let at = if right { at + 1 } else { at.wrapping_sub(1) };
        Self::ALL.get(at).copied().unwrap_or(self)
    }

    /// Figures with the most first, names by the alphabet.
    fn compare(self, a: &TunnelRow, b: &TunnelRow) -> Ordering {
        let most = |a: f64, b: f64| b.total_cmp(&a);
        let trip = |row: &TunnelRow| row.of.client_rtt_ms.unwrap_or(-1.0);
        match self {
            Self::Id => a.of.session.cmp(&b.of.session),
            Self::Client => a.of.client.cmp(&b.of.client),
            Self::Route => a.of.route.cmp(&b.of.route),
            Self::Backend => a.of.backend.cmp(&b.of.backend),
            Self::Age => b.of.age_ms.cmp(&a.of.age_ms),
            Self::Up => most(a.rate.up, b.rate.up),
            Self::Down => most(a.rate.down, b.rate.down),
            Self::Messages => most(a.rate.messages, b.rate.messages),
            Self::Total => total(&b.of).cmp(&total(&a.of)),
            Self::Rtt => most(trip(a), trip(b)),
        }
    }
}

impl TopState {
    /// Before anything was seen.
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            headline: StatusSummary::default(),
            flow: [0.0; 3],
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
            said: None,
            trouble: None,
            last: SessionList::default(),
        }
    }

    /// The process was looked at.
    pub fn seen(&mut self, look: TopSample) -> Option<TopAction> {
        let TopSample { headline, sessions } = look;
        self.trouble = None;
        self.flow = flow(&self.headline, &headline);
        self.headline = headline;
        if !self.paused {
            let rates = SessionRates::between(&self.last, &sessions);
            // On the first look every tunnel would seem to have moved all it has just now.
            let known = self.last.now > 0.0;
            let row = |of: &SessionRow| TunnelRow {
                rate: if known { rates.of(of) } else { SessionRate::default() },
                of: of.clone(),
            };
            self.rows = sessions.sessions.iter().map(row).collect();
            self.arrange();
        }
        self.last = sessions;
        match self.mode {
            TopMode::Detail(session, _) if !self.paused => {
                Some(TopAction::Ask(TopCommand::Detail(session)))
            }
            TopMode::Confirm(_)
            | TopMode::Detail(..)
            | TopMode::Filter
            | TopMode::Help
            | TopMode::Table => None,
        }
    }

    /// What is known of a tunnel came.
    pub fn told(
        &mut self,
        session: u64,
        told: Result<Box<SessionDetail>, String>,
    ) -> Option<TopAction> {
        match &mut self.mode {
            TopMode::Detail(shown, detail) if *shown == session => *detail = Some(told),
            TopMode::Confirm(_)
            | TopMode::Detail(..)
            | TopMode::Filter
            | TopMode::Help
            | TopMode::Table => {}
        }
        None
    }

    /// Something was done.
    pub fn say(&mut self, said: String) -> Option<TopAction> {
        self.said = Some(said);
        None
    }

    /// The process does not answer.
    pub fn gone(&mut self, why: String) -> Option<TopAction> {
        self.trouble = Some(why);
        self.flow = [0.0; 3];
        None
    }

    /// Sorts by a column; by the same again: the other way round.
    pub fn sort_by(&mut self, column: SortColumn) {
        self.reversed = self.sort == column && !self.reversed;
        self.sort = column;
        self.arrange();
    }

    /// Sorts by the column beside.
    pub fn sort_beside(&mut self, right: bool) {
        self.sort = self.sort.beside(right);
        self.reversed = false;
        self.arrange();
    }

    /// Other rows, or in another order: the selected tunnel stays so if it is there.
    pub fn arrange(&mut self) {
        let (rows, filter) = (&self.rows, self.filter.to_lowercase());
        let fits = |row: &TunnelRow| {
            let names = [&row.of.client, &row.of.route, &row.of.backend];
            filter.is_empty() || names.iter().any(|name| name.to_lowercase().contains(&filter))
        };
        self.order = (0..rows.len()).filter(|index| fits(&rows[*index])).collect();
        let (sort, reversed) = (self.sort, self.reversed);
        self.order.sort_by(|a, b| {
            let order = sort.compare(&rows[*a], &rows[*b]);
            if reversed { order.reverse() } else { order }
        });
        if let Some(session) = self.session {
            let found = self.order.iter().position(|index| rows[*index].of.session == session);
            // Another one takes the place of one that is gone.
            self.selected = found.unwrap_or(self.selected);
        }
        self.select(self.selected);
    }

    /// Selects by place; the last if there are not so many.
    pub fn select(&mut self, place: usize) {
        self.selected = place.min(self.order.len().saturating_sub(1));
        let moved = self.selected > 0 || self.session.is_some();
        // Until somebody chooses, it is whoever comes first.
        self.session = self.current().map(|row| row.of.session).filter(|_| moved);
        let page = self.page.max(1);
        self.first = self.first.clamp((self.selected + 1).saturating_sub(page), self.selected);
        self.first = self.first.min(self.order.len().saturating_sub(page));
    }

    /// Selects so many rows further down, or up.
    pub fn step(&mut self, rows: isize) {
        self.select(self.selected.saturating_add_signed(rows));
        self.session = self.current().map(|row| row.of.session);
    }

    /// The selected row.
    pub fn current(&self) -> Option<&TunnelRow> {
        self.order.get(self.selected).and_then(|index| self.rows.get(*index))
    }

    /// Its place on the page.
    pub fn mark(&self) -> Option<usize> {
        (!self.order.is_empty()).then(|| self.selected.saturating_sub(self.first))
    }

    /// The rows that fit on a page of this height, and no others.
    pub fn visible(&mut self, page: usize) -> impl Iterator<Item = &TunnelRow> {
        self.page = page;
        self.select(self.selected);
        self.order.iter().skip(self.first).take(page).filter_map(|index| self.rows.get(*index))
    }

    /// How many fit the filter, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.order.len(), self.rows.len())
    }
}

/// What a process moved a second between two looks; nothing if it is another one.
fn flow(before: &StatusSummary, now: &StatusSummary) -> [f64; 3] {
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
