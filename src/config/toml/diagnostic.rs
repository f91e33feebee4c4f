//! What is wrong with a configuration, and how it is shown to the person who wrote it: every
//! fault at once, each with file, line, column, the line itself, a caret, and what to do.

use std::fmt;
use std::ops::Range;

/// What is wrong with one value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    problem: String,
    help: Option<String>,
    zero: bool,
}

impl Problem {
    /// Lower case, without a full stop. What it repeats from the file is cut and made harmless.
    pub fn new(problem: impl AsRef<str>) -> Self {
        Self { problem: shown(problem.as_ref()), help: None, zero: false }
    }

    /// A limit of nothing, which people write when they mean no limit.
    pub(crate) fn zero(problem: impl AsRef<str>) -> Self {
        Self { zero: true, ..Self::new(problem) }
    }

    /// Says what to write instead, in one line or several.
    #[must_use]
    pub fn help(self, help: impl AsRef<str>) -> Self {
        let lines: Vec<String> = help.as_ref().split('\n').map(shown).collect();
        Self { help: Some(lines.join("\n")), ..self }
    }

    /// Says what to write instead, if it is about a limit of nothing.
    pub(crate) fn help_if_zero(self, help: &str) -> Self {
        if self.zero { self.help(help) } else { self }
    }

    /// Another complaint, if it is about a limit of nothing.
    pub(crate) fn zero_as(self, other: impl FnOnce() -> Self) -> Self {
        if self.zero { other() } else { self }
    }

    /// Says what to write instead, if nothing better was said.
    pub(crate) fn help_if_none(self, help: &str) -> Self {
        if self.help.is_none() { self.help(help) } else { self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Where a key or value stands: its path (`route[0].limits.idle`) and its bytes in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPath {
    pub(crate) key: String,
    pub(crate) span: Range<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `None`: the file as a whole.
    place: Option<KeyPath>,
    complaint: Problem,
}

impl Diagnostic {
    /// A fault in one place.
    pub(crate) fn at(place: KeyPath, complaint: Problem) -> Self {
        Self { place: Some(place), complaint }
    }

    /// A fault of the file as a whole.
    pub(crate) fn whole(complaint: Problem) -> Self {
        Self { place: None, complaint }
    }

    /// Path of the key, as in `route[0].limits.idle`; empty for the file as a whole and for
    /// faults of syntax.
    pub fn key(&self) -> &str {
        self.place.as_ref().map_or("", |place| &place.key)
    }

    /// What is wrong, without where.
    pub fn problem(&self) -> &str {
        &self.complaint.problem
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.complaint.help.as_deref()
    }

    fn start(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.span.start)
    }
}

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    list: Vec<Diagnostic>,
    unlisted: usize,
}

impl Diagnostics {
    /// Faults of a text; `first` and `rest` together, so that there is always one.
    pub(crate) fn new(name: &str, text: &str, first: Diagnostic, rest: Vec<Diagnostic>) -> Self {
        let mut list = rest;
        list.insert(0, first);
        list.sort_by_key(Diagnostic::start);
        let unlisted = list.len().saturating_sub(LISTED_MAX);
        list.truncate(LISTED_MAX);
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), text: text.to_owned(), line_starts, list, unlisted }
    }

    /// The faults that are listed: all of them, but never more than a hundred.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are, listed or not.
    pub fn count(&self) -> usize {
        self.list.len() + self.unlisted
    }

    /// One line for each listed fault, for a log:
    /// `proxy.toml:12:8: limits.idle: 30 has no unit (write "30s" for seconds)`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|fault| {
            let mut line = self.heading(fault);
            if let Some(help) = fault.help() {
                let help = help.replace(",\n", ", ").replace('\n', "; ");
                line.push_str(&format!(" ({help})"));
            }
            line
        })
    }

    fn heading(&self, fault: &Diagnostic) -> String {
        let mut heading = self.name.clone();
        if let Some(place) = &fault.place {
            let (line, column) = self.position(place.span.start);
            heading.push_str(&format!(":{}:{}", line + 1, column + 1));
        }
        if !fault.key().is_empty() {
            heading.push_str(&format!(": {}", fault.key()));
        }
        heading.push_str(&format!(": {}", fault.problem()));
        heading
    }

    /// Line and column (in characters), both from 0.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let before = self.text.get(self.line_start(line)..offset).unwrap_or("");
        (line, before.chars().count())
    }

    fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line).copied().unwrap_or(self.text.len())
    }

    fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let (line, column) = self.position(span.start);
        let source = self
            .text
            .get(self.line_start(line)..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or("");
        let marked = self.text.get(span.clone()).and_then(|text| text.lines().next()).unwrap_or("");
        Excerpt::new(line + 1, source, column, marked.chars().count())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            writeln!(f, "{}", self.heading(fault))?;
            let mut indent = 2;
            if let Some(place) = &fault.place {
                let excerpt = self.excerpt(&place.span);
                indent = excerpt.number.len() + 2;
                writeln!(f, " {} | {}", excerpt.number, excerpt.source)?;
                writeln!(f, "{:indent$}| {}{}", "", " ".repeat(excerpt.column), excerpt.carets)?;
            }
            for (row, help) in fault.help().unwrap_or("").lines().enumerate() {
                let label = if row == 0 { "help:" } else { "     " };
                writeln!(f, "{:indent$}{label} {help}", "")?;
            }
            writeln!(f)?;
        }
        let count = self.count();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "{}: {count} {noun}", self.name)?;
        if self.unlisted > 0 {
            write!(f, ", the first {LISTED_MAX} of them above")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl<'f> IntoIterator for &'f Diagnostics {
    type Item = &'f Diagnostic;
    type IntoIter = std::slice::Iter<'f, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One source line as it can be shown on a terminal.
struct Excerpt {
    number: String,
    source: String,
    column: usize,
    carets: String,
}

impl Excerpt {
    fn new(number: usize, source: &str, column: usize, marked: usize) -> Self {
        // A line may be megabytes long: show the part around the fault.
        let fits = column + marked <= WIDTH_MAX;
        let skipped = if fits { 0 } else { column.saturating_sub(WIDTH_MAX / 2) };
        let mut rest = source.chars().skip(skipped);
        let shown: String = rest.by_ref().take(WIDTH_MAX).map(printable).collect();
        let before = if skipped > 0 { "..." } else { "" };
        let after = if rest.next().is_some() { "..." } else { "" };
        let column = column - skipped;
        let room = shown.chars().count().saturating_sub(column);
        Self {
            number: number.to_string(),
            source: format!("{before}{}{after}", shown.trim_end()),
            column: column + before.len(),
            carets: "^".repeat(marked.min(room).max(1)),
        }
    }
}

/// A text from the file as it can be repeated.
pub(crate) fn shown(text: &str) -> String {
    let mut rest = text.chars();
    let mut shown: String = rest.by_ref().take(SHOWN_MAX).map(printable).collect();
    if rest.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// A file may hold bytes that would steer the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// More faults than this help nobody; the rest is only counted.
const LISTED_MAX: usize = 100;
/// Most characters of a problem, and of a line of help.
const SHOWN_MAX: usize = 300;
/// Most characters of a source line that are shown.
const WIDTH_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let place = KeyPath { key: "a".to_owned(), span };
        let fault = Diagnostic::at(place, Problem::new("wrong").help("do this\nand that"));
        Diagnostics::new("f", text, fault, Vec::new()).to_string()
    }

    #[test]
    fn carets_stand_below_what_they_mean() {
        assert_eq!(
            shown("b = 1\na = \"ü\" # é\n", 10..14),
            "f:2:5: a: wrong\n 2 | a = \"ü\" # é\n   |     ^^^\n   help: do this\n         and that\n\nf: 1 fault"
        );
        // The line number decides how far all is moved.
        let text = format!("{}a = 1", "\n".repeat(99));
        assert!(
            shown(&text, 103..104).contains("\n 100 | a = 1\n     |     ^\n     help: do this\n")
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let text =
            format!("a = [{}\"here\", {}]", "\"x\", ".repeat(10_000), "\"y\", ".repeat(10_000));
        let at = text.find("\"here\"").unwrap();
        let shown = shown(&text, at..at + 6);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].len() < 120 && lines[1].starts_with(" 1 | ...") && lines[1].ends_with("...")
        );
        let (from, to) = (lines[2].find('^').unwrap(), lines[2].rfind('^').unwrap());
        assert_eq!(&lines[1][from..=to], "\"here\"");
    }

    #[test]
    fn what_spans_lines_is_marked_on_the_first() {
        assert!(shown("a = {\n}\n", 4..7).contains(" 1 | a = {\n   |     ^\n"));
        assert!(shown("a = 1\n", 6..6).contains("f:2:1: a: wrong\n 2 | \n   | ^\n"));
        assert!(shown("", 0..0).contains("f:1:1: a: wrong\n"));
    }

    #[test]
    fn nothing_in_the_file_steers_the_terminal() {
        let shown = shown("a = '\u{1b}[2J\u{202e}\t\u{7f}\u{9b}'\r\n", 4..5);
        assert!(
            !shown.contains(['\u{1b}', '\u{202e}', '\t', '\u{7f}', '\u{9b}', '\r']),
            "{shown:?}"
        );
    }

    #[test]
    fn faults_stand_in_the_order_of_the_file() {
        let fault = |start: usize| {
            let place = KeyPath { key: start.to_string(), span: start..start + 1 };
            Diagnostic::at(place, Problem::new("wrong"))
        };
        let whole = Diagnostic::whole(Problem::new("empty"));
        let faults = Diagnostics::new("f", "abc\ndef\n", fault(5), vec![fault(1), whole]);
        let lines: Vec<String> = faults.lines().collect();
        assert_eq!(lines, ["f: empty", "f:1:2: 1: wrong", "f:2:2: 5: wrong"]);
    }
}
