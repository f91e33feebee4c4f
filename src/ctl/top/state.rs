//! What `top` knows and shows: pure, so that a test can press its keys. Rows are sorted when they
//! come or when the order changes, never for a drawing.

use std::cmp::Ordering;

use super::feed::{Look, Order};
use crate::ctl::sessions::{Rate, Rates, total};
use crate::ctl::status::Headline;
use crate::protocol::answer::{SessionDetail, SessionRow, Sessions};

/// Everything.
#[derive(Debug)]
pub struct Top {
    /// Colours may be used.
    pub colour: bool,
    /// What is over the table.
    pub headline: Headline,
    /// What all tunnels together move a second, by the headline: messages, bytes up and down.
    pub flow: [f64; 3],
    /// All tunnels, as they came.
    rows: Vec<Row>,
    /// Those that are shown, in their order; indices of `rows`.
    order: Vec<usize>,
    /// By what they are sorted.
    pub sort: Column,
    /// The least of it first.
    pub reversed: bool,
    /// What client, route or backend must have in it.
    pub filter: String,
    /// The table stands still.
    pub paused: bool,
    /// What keys mean.
    pub mode: Mode,
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
    last: Sessions,
}

/// A tunnel and what it moves.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// As it came.
    pub of: SessionRow,
    /// Since the look before.
    pub rate: Rate,
}

/// What keys mean, and what is shown over the table.
#[derive(Clone, Debug, Default)]
pub enum Mode {
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
pub enum Deed {
    /// Ask the process.
    Ask(Order),
    /// Leave.
    Quit,
}

/// The columns, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
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

impl Column {
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
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let most = |a: f64, b: f64| b.total_cmp(&a);
        let trip = |row: &Row| row.of.client_rtt_ms.unwrap_or(-1.0);
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

impl Top {
    /// Before anything was seen.
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            headline: Headline::default(),
            flow: [0.0; 3],
            rows: Vec::new(),
            order: Vec::new(),
            sort: Column::Messages,
            reversed: false,
            filter: String::new(),
            paused: false,
            mode: Mode::default(),
            selected: 0,
            session: None,
            first: 0,
            page: 1,
            said: None,
            trouble: None,
            last: Sessions::default(),
        }
    }

    /// The process was looked at.
    pub fn seen(&mut self, look: Look) -> Option<Deed> {
        let Look { headline, sessions } = look;
        self.trouble = None;
        self.flow = flow(&self.headline, &headline);
        self.headline = headline;
        if !self.paused {
            let rates = Rates::between(&self.last, &sessions);
            // On the first look every tunnel would seem to have moved all it has just now.
            let known = self.last.now > 0.0;
            let row = |of: &SessionRow| Row {
                rate: if known { rates.of(of) } else { Rate::default() },
                of: of.clone(),
            };
            self.rows = sessions.sessions.iter().map(row).collect();
            self.arrange();
        }
        self.last = sessions;
        match self.mode {
            Mode::Detail(session, _) if !self.paused => Some(Deed::Ask(Order::Detail(session))),
            Mode::Confirm(_) | Mode::Detail(..) | Mode::Filter | Mode::Help | Mode::Table => None,
        }
    }

    /// What is known of a tunnel came.
    pub fn told(&mut self, session: u64, told: Result<Box<SessionDetail>, String>) -> Option<Deed> {
        match &mut self.mode {
            Mode::Detail(shown, detail) if *shown == session => *detail = Some(told),
            Mode::Confirm(_) | Mode::Detail(..) | Mode::Filter | Mode::Help | Mode::Table => {}
        }
        None
    }

    /// Something was done.
    pub fn say(&mut self, said: String) -> Option<Deed> {
        self.said = Some(said);
        None
    }

    /// The process does not answer.
    pub fn gone(&mut self, why: String) -> Option<Deed> {
        self.trouble = Some(why);
        self.flow = [0.0; 3];
        None
    }

    /// Sorts by a column; by the same again: the other way round.
    pub fn sort_by(&mut self, column: Column) {
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
        let fits = |row: &Row| {
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
    pub fn current(&self) -> Option<&Row> {
        self.order.get(self.selected).and_then(|index| self.rows.get(*index))
    }

    /// Its place on the page.
    pub fn mark(&self) -> Option<usize> {
        (!self.order.is_empty()).then(|| self.selected.saturating_sub(self.first))
    }

    /// The rows that fit on a page of this height, and no others.
    pub fn visible(&mut self, page: usize) -> impl Iterator<Item = &Row> {
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
fn flow(before: &Headline, now: &Headline) -> [f64; 3] {
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
