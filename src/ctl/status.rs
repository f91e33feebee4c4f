//! `ctl status`: a summary of `/status.json` (`docs/status.md`). Missing fields are tolerated,
//! because another version of tidegate may send fewer.

use serde_json::Value;

use super::format::{age, bytes, count};
use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable, sanitize};
use crate::control_protocol::ControlRequest;

/// Prints the summary and a table of backends.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn status(output: &Output) -> Result<(), CommandFailure> {
    output.print(&ControlRequest::Status, |status: Value| {
        let status = StatusView(&status);
        format!("{}\n{}", status.summary(), output.table(&status.backends(), "no routes"))
    })
}

/// The counts at the top of `ctl top`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusSummary {
    /// `running` or `draining`.
    pub state: String,
    /// Start of the process as Unix time in seconds; differs after a restart.
    pub started: f64,
    /// Unix time of the status, in seconds.
    pub now: f64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Rejected requests and dropped connections since the start.
    pub rejected: u64,
    /// Messages relayed since the start, in both directions.
    pub messages: u64,
    /// Bytes relayed to backends since the start.
    pub up_bytes: u64,
    /// Bytes relayed to clients since the start.
    pub down_bytes: u64,
}

impl StatusSummary {
    /// Reads the counts from a status document.
    pub fn from_status(status: &Value) -> Self {
        let status = StatusView(status);
        Self {
            state: status.text("/state"),
            started: status.float("/started"),
            now: status.float("/now"),
            tunnels: status.number("/tunnels/open"),
            rejected: status.number("/requests_rejected") + status.number("/connections_dropped"),
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

    fn float(&self, at: &str) -> f64 {
        self.0.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn is_true(&self, at: &str) -> bool {
        self.0.pointer(at).and_then(Value::as_bool).unwrap_or(false)
    }

    fn text(&self, at: &str) -> String {
        sanitize(self.0.pointer(at).and_then(Value::as_str).unwrap_or("?"))
    }

    fn list(&self, at: &str) -> impl Iterator<Item = StatusView<'_>> {
        self.0.pointer(at).and_then(Value::as_array).into_iter().flatten().map(StatusView)
    }

    /// Formats the time from a Unix time until the status was made.
    fn since(&self, unix_seconds: f64) -> String {
        age(((self.float("/now") - unix_seconds).max(0.0) * 1000.0) as u64)
    }

    fn summary(&self) -> String {
        let mut lines = vec![
            ("tidegate", format!("{}, {}", self.text("/version"), self.text("/state"))),
            ("started", format!("{} ago", self.since(self.float("/started")))),
            ("configuration", self.configuration()),
            ("tunnels", self.open("/tunnels")),
            ("connections", self.open("/connections")),
            ("up", self.flow("up")),
            ("down", self.flow("down")),
            ("rejected", self.rejections()),
        ];
        let ended = self.top_causes("/ended", "by");
        if !ended.is_empty() {
            lines.push(("ended", ended));
        }
        lines.extend(self.list("/drains").map(|drain| ("drain", drain.drain_progress())));
        lines.extend(
            self.list("/pools").flat_map(|pool| pool.failing_names()).map(|of| ("name", of)),
        );
        lines.extend(self.list("/pools").flat_map(|pool| pool.kept()).map(|of| ("kept", of)));
        lines.extend(self.list("/rebalances").map(|of| ("rebalance", of.rebalance_progress())));
        let keys = self.restart_required();
        if !keys.is_empty() {
            lines.push(("restart", format!("required for {keys}")));
        }
        lines.extend(
            self.list("/certificates")
                .map(|certificate| ("certificate", self.certificate(&certificate))),
        );
        lines.push((
            "memory",
            format!(
                "{}, {} of {} descriptors",
                bytes(self.number("/memory/resident_bytes")),
                self.number("/descriptors/open"),
                self.number("/descriptors/max"),
            ),
        ));
        lines.extend(self.list("/log_losses").map(|loss| ("log", self.log_loss(&loss))));
        lines.iter().map(|(name, value)| format!("{name:<13}  {value}\n")).collect()
    }

    fn log_loss(&self, loss: &StatusView<'_>) -> String {
        let ago = |at| self.since(loss.float(at));
        let error = loss.0.pointer("/error").and_then(Value::as_str);
        format!(
            "{} to {} lost, the first {} ago, the last {} ago: {}",
            count(loss.number("/lines"), "line"),
            loss.text("/to"),
            ago("/first"),
            ago("/last"),
            error.map_or_else(|| "lines came faster than they were written".to_owned(), sanitize)
        )
    }

    fn configuration(&self) -> String {
        let number = self.number("/generation");
        let Some(at) = self.0.pointer("/reload/at").and_then(Value::as_f64) else {
            return number.to_string();
        };
        let since = self.since(at);
        match self.0.pointer("/reload/applied").and_then(Value::as_bool) {
            Some(false) => {
                let errors = count(self.number("/reload/errors_total"), "error");
                format!("{number}; a reload {since} ago was rejected with {errors}")
            }
            Some(true) | None => format!("{number}, since {since}"),
        }
    }

    /// Changed keys that take effect after a restart.
    fn restart_required(&self) -> String {
        let keys = self.0.pointer("/restart_required").and_then(Value::as_array);
        let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(sanitize);
        keys.collect::<Vec<_>>().join(", ")
    }

    fn drain_progress(&self) -> String {
        let (left, all) = (self.number("/left"), count(self.number("/tunnels"), "tunnel"));
        format!("{}: {left} of {all} left", self.text("/scope"))
    }

    fn rebalance_progress(&self) -> String {
        let (closed, left) = (count(self.number("/closed"), "tunnel"), self.number("/left"));
        format!(
            "{}: {closed} closed, {left} left, {}/s",
            self.text("/pool"),
            self.number("/per_second")
        )
    }

    fn open(&self, path: &str) -> String {
        let number = |name: &str| self.number(&format!("{path}/{name}"));
        let (open, max, opened) = (number("open"), number("max"), number("opened"));
        format!("{open} open of at most {max}, {opened} in total")
    }

    fn flow(&self, direction: &str) -> String {
        let bytes = bytes(self.number(&format!("/bytes/{direction}")));
        format!("{bytes} in {}", count(self.number(&format!("/messages/{direction}")), "message"))
    }

    fn rejections(&self) -> String {
        let requests = count(self.number("/requests_rejected"), "request");
        let dropped = count(self.number("/connections_dropped"), "connection");
        let rejected = self.top_causes("/rejected", "stage");
        let drops = self.top_causes("/dropped", "stage");
        let in_parentheses = |causes: String| match causes.is_empty() {
            true => String::new(),
            false => format!(" ({causes})"),
        };
        format!(
            "{requests}{}; {dropped} dropped{}",
            in_parentheses(rejected),
            in_parentheses(drops)
        )
    }

    /// Formats the most frequent causes of a list, which is sorted by count.
    fn top_causes(&self, list: &str, label: &str) -> String {
        let cause = |cause: StatusView<'_>| {
            let (label, reason) = (cause.text(&format!("/{label}")), cause.text("/reason"));
            format!("{label} {reason} {}", cause.number("/count"))
        };
        self.list(list).take(CAUSES_MAX).map(cause).collect::<Vec<_>>().join(", ")
    }

    fn certificate(&self, certificate: &StatusView<'_>) -> String {
        let left = certificate.float("/not_after") - self.float("/now");
        let name = certificate.names();
        let is_issued = certificate.0.pointer("/not_after").is_some_and(|at| !at.is_null());
        let validity = match left > 0.0 {
            true => format!("valid for {}", age((left * 1000.0) as u64)),
            false if is_issued => "EXPIRED".to_owned(),
            false => "NOT ISSUED".to_owned(),
        };
        match certificate.0.pointer("/order/last_error/text").and_then(Value::as_str) {
            Some(error) => format!("{name}, {validity}; last order failed: {}", sanitize(error)),
            None => format!("{name}, {validity}"),
        }
    }

    /// The first names of a certificate.
    fn names(&self) -> String {
        let names = self.0.pointer("/names").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<String> = names.map(sanitize).collect();
        match names.len().saturating_sub(NAMES_MAX) {
            _ if names.is_empty() => self.text("/name"),
            0 => names.join(", "),
            more => format!("{} and {more} more", names[..NAMES_MAX].join(", ")),
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
                table.push([
                    pool.route(),
                    backend.id(),
                    backend.state(),
                    backend.number("/tunnels").to_string(),
                    share.map_or("-".to_owned(), percent),
                    percent(backend.float("/expected_share")),
                    backend.number("/opened").to_string(),
                    backend.number("/connect_failures").to_string(),
                ]);
            }
        }
        table
    }

    /// The names of a pool whose lookups fail.
    fn failing_names(&self) -> Vec<String> {
        let failing = |name: StatusView<'_>| {
            let problem = sanitize(name.0.pointer("/problem")?.as_str()?);
            let addresses = name.number("/addresses");
            let number = if addresses == 1 {
                "1 address".to_owned()
            } else {
                format!("{addresses} addresses")
            };
            let (name, route) = (name.text("/name"), self.text("/route"));
            Some(format!("{name} of route {route}: {problem}; {number} of the last answer in use"))
        };
        self.list("/names").filter_map(failing).collect()
    }

    /// What an operator set for addresses that have left the answers for the names of a pool.
    fn kept(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in self.list("/names") {
            for kept in name.list("/kept") {
                let is_drained = kept.0.pointer("/drained").and_then(Value::as_bool);
                let drained = is_drained.unwrap_or(false).then(|| "drained".to_owned());
                let weight = kept.0.pointer("/weight").and_then(Value::as_u64);
                let set =
                    drained.into_iter().chain(weight.map(|weight| format!("weight {weight}")));
                lines.push(format!(
                    "{} of route {} ({}), not in the answer: {}, for another {}",
                    kept.text("/address"),
                    self.text("/route"),
                    name.text("/name"),
                    set.collect::<Vec<_>>().join(", "),
                    age(kept.number("/seconds_left") * 1000),
                ));
            }
        }
        lines
    }

    /// The route column of a pool.
    fn route(&self) -> String {
        let drained = self.is_true("/drained");
        let in_maintenance = self.0.pointer("/maintenance").is_some_and(Value::is_string);
        let pool = self.0.pointer("/pool").and_then(Value::as_str);
        let mut backends = self.list("/backends");
        let canaries = match backends.any(|backend| backend.is_true("/canary")) {
            true => format!(" (canaries {})", self.text("/canary_share")),
            false => String::new(),
        };
        let tls = match self.0.pointer("/tls/verified").and_then(Value::as_bool) {
            Some(true) => ", TLS",
            Some(false) => ", TLS not verified",
            None => "",
        };
        self.text("/route")
            + &pool.map_or(String::new(), |pool| format!(" (pool {}{tls})", sanitize(pool)))
            + &canaries
            + if drained { " (drained)" } else { "" }
            + if in_maintenance { " (maintenance)" } else { "" }
    }

    /// The backend column, with the name that its address belongs to.
    fn id(&self) -> String {
        let id = self.text("/id");
        match self.0.pointer("/name").and_then(Value::as_str).map(sanitize) {
            Some(name) if name != id => format!("{id} ({name})"),
            Some(_) | None => id,
        }
    }

    /// The state column of a backend.
    fn state(&self) -> String {
        let state = match self.text("/state") {
            down if down == "down" => "DOWN".to_owned(),
            other => other,
        };
        let state = match self.0.pointer("/problem").and_then(Value::as_str) {
            Some(problem) => format!("{state} ({})", sanitize(problem)),
            None => state,
        };
        let flags = ["canary", "backup", "drained"];
        let flags = flags.iter().filter(|flag| self.is_true(&format!("/{flag}")));
        flags.fold(state, |state, flag| format!("{state}, {flag}"))
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

const CAUSES_MAX: usize = 5;
/// Names of one certificate.
const NAMES_MAX: usize = 4;
