//! `ctl status`: the process on one screen. It reads what `/status.json` says (`docs/status.md`),
//! and shows what of it is there, as another version may say more or less.

use serde_json::Value;

use super::format::{age, bytes, count};
use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable, sanitize};
use crate::protocol::ControlRequest;

/// Asks, and shows.
pub fn status(output: &Output) -> Result<(), CommandFailure> {
    output.put(&ControlRequest::Status, |status: Value| {
        let status = StatusView(&status);
        format!("{}\n{}", status.summary(), output.table(&status.backends(), "no route"))
    })
}

/// The counts that everything begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusSummary {
    /// `running`, `draining`, ...
    pub state: String,
    /// When the process began, in seconds since 1970; another one began at another time.
    pub started: f64,
    /// When this was said.
    pub now: f64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Refused requests and dropped connections since the start.
    pub refused: u64,
    /// Messages relayed since the start, in both directions.
    pub messages: u64,
    /// Bytes up.
    pub up_bytes: u64,
    /// Bytes down.
    pub down_bytes: u64,
}

impl StatusSummary {
    /// Read from a whole status.
    pub fn of(status: &Value) -> Self {
        let status = StatusView(status);
        Self {
            state: status.text("/state"),
            started: status.figure("/started"),
            now: status.figure("/now"),
            tunnels: status.number("/tunnels/open"),
            refused: status.number("/requests_rejected") + status.number("/connections_dropped"),
            messages: status.number("/messages/up") + status.number("/messages/down"),
            up_bytes: status.number("/bytes/up"),
            down_bytes: status.number("/bytes/down"),
        }
    }
}

struct StatusView<'v>(&'v Value);

impl StatusView<'_> {
    fn number(&self, at: &str) -> u64 {
        self.0.pointer(at).and_then(Value::as_u64).unwrap_or(0)
    }

    fn figure(&self, at: &str) -> f64 {
        self.0.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn text(&self, at: &str) -> String {
        sanitize(self.0.pointer(at).and_then(Value::as_str).unwrap_or("?"))
    }

    fn list(&self, at: &str) -> impl Iterator<Item = StatusView<'_>> {
        self.0.pointer(at).and_then(Value::as_array).into_iter().flatten().map(StatusView)
    }

    /// Between two moments that are said in seconds.
    fn since(&self, moment: f64) -> String {
        age(((self.figure("/now") - moment).max(0.0) * 1000.0) as u64)
    }

    fn summary(&self) -> String {
        let mut lines = vec![
            ("tidegate", format!("{}, {}", self.text("/version"), self.text("/state"))),
            ("started", format!("{} ago", self.since(self.figure("/started")))),
            ("configuration", self.configuration()),
            ("tunnels", self.open("/tunnels")),
            ("connections", self.open("/connections")),
            ("up", self.flow("up")),
            ("down", self.flow("down")),
            ("rejected", self.refused()),
        ];
        let ended = self.most("/ended", "by");
        if !ended.is_empty() {
            lines.push(("ended", ended));
        }
        lines.extend(self.list("/drains").map(|of| ("drain", of.drain())));
        let waiting = self.waiting();
        if !waiting.is_empty() {
            lines.push(("restart", format!("{waiting} of the file hold after one only")));
        }
        lines.extend(self.list("/certificates").map(|of| ("certificate", self.certificate(&of))));
        lines.push((
            "memory",
            format!(
                "{}, {} of {} descriptors",
                bytes(self.number("/memory/resident_bytes")),
                self.number("/descriptors/open"),
                self.number("/descriptors/max"),
            ),
        ));
        if self.number("/log_lines_lost") > 0 {
            lines.push(("log", format!("{} lines lost", self.number("/log_lines_lost"))));
        }
        lines.iter().map(|(name, value)| format!("{name:<13}  {value}\n")).collect()
    }

    fn configuration(&self) -> String {
        let number = self.number("/generation");
        let Some(at) = self.0.pointer("/reload/at").and_then(Value::as_f64) else {
            return number.to_string();
        };
        let since = self.since(at);
        match self.0.pointer("/reload/applied").and_then(Value::as_bool) {
            Some(false) => {
                let faults = count(self.number("/reload/errors_total"), "fault");
                format!("{number}; a reload {since} ago was refused for {faults}")
            }
            Some(true) | None => format!("{number}, since {since}"),
        }
    }

    /// Keys that wait for a restart.
    fn waiting(&self) -> String {
        let keys = self.0.pointer("/restart_required").and_then(Value::as_array);
        let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(sanitize);
        keys.collect::<Vec<_>>().join(", ")
    }

    /// Of a drain under way.
    fn drain(&self) -> String {
        let (left, all) = (self.number("/left"), count(self.number("/tunnels"), "tunnel"));
        format!("{}: {left} of {all} left", self.text("/scope"))
    }

    fn open(&self, what: &str) -> String {
        let number = |name: &str| self.number(&format!("{what}/{name}"));
        let (open, most, opened) = (number("open"), number("max"), number("opened"));
        format!("{open} open of at most {most}, {opened} in all")
    }

    fn flow(&self, way: &str) -> String {
        let moved = bytes(self.number(&format!("/bytes/{way}")));
        format!("{moved} in {}", count(self.number(&format!("/messages/{way}")), "message"))
    }

    fn refused(&self) -> String {
        let requests = count(self.number("/requests_rejected"), "request");
        let dropped = count(self.number("/connections_dropped"), "connection");
        let (refused, drops) = (self.most("/rejected", "stage"), self.most("/dropped", "stage"));
        let because = |causes: String| match causes.is_empty() {
            true => String::new(),
            false => format!(" ({causes})"),
        };
        format!("{requests}{}; {dropped} dropped{}", because(refused), because(drops))
    }

    /// The first causes of a list that has the most frequent first.
    fn most(&self, list: &str, of: &str) -> String {
        let cause = |cause: StatusView<'_>| {
            let (of, reason) = (cause.text(&format!("/{of}")), cause.text("/reason"));
            format!("{of} {reason} {}", cause.number("/count"))
        };
        self.list(list).take(CAUSES_MAX).map(cause).collect::<Vec<_>>().join(", ")
    }

    fn certificate(&self, of: &StatusView<'_>) -> String {
        let left = of.figure("/not_after") - self.figure("/now");
        let name = of.text("/name");
        match left > 0.0 {
            true => format!("{name}, good for {}", age((left * 1000.0) as u64)),
            false => format!("{name}, EXPIRED"),
        }
    }

    fn backends(&self) -> TextTable {
        use Align::{Left, Right};
        let mut table = TextTable::new(&[
            ("ROUTE", Left),
            ("BACKEND", Left),
            ("STATE", Left),
            ("TUNNELS", Right),
            ("SHARE", Right),
            ("EXPECTED", Right),
            ("OPENED", Right),
            ("FAILED", Right),
        ]);
        for pool in self.list("/pools") {
            for backend in pool.list("/backends") {
                let share = backend.0.pointer("/share").and_then(Value::as_f64);
                table.row([
                    pool.route(),
                    backend.text("/id"),
                    backend.state(),
                    backend.number("/tunnels").to_string(),
                    share.map_or("-".to_owned(), percent),
                    percent(backend.figure("/expected_share")),
                    backend.number("/opened").to_string(),
                    backend.number("/connect_failures").to_string(),
                ]);
            }
        }
        table
    }

    /// Of a pool.
    fn route(&self) -> String {
        let drained = self.0.pointer("/drained").and_then(Value::as_bool).unwrap_or(false);
        self.text("/route") + if drained { " (drained)" } else { "" }
    }

    /// Of a backend.
    fn state(&self) -> String {
        let is = |name: &str| self.0.pointer(name).and_then(Value::as_bool);
        let up = if is("/up").unwrap_or(true) { "up" } else { "DOWN" };
        match is("/drained").unwrap_or(false) {
            true => format!("{up}, drained"),
            false => up.to_owned(),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

const CAUSES_MAX: usize = 5;
