//! Configuration errors and their display: all errors of a file at once, each with file, line and
//! column, the source line with a caret, and what to write instead.

use std::fmt;
use std::ops::Range;

/// A mistake in a value, without its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    message: String,
    help: Option<String>,
    zero: bool,
}

impl Problem {
    /// Creates a problem from a message in lower case without a full stop. Text that the message
    /// quotes from the file is truncated, and characters that control a terminal are replaced.
    pub fn new(message: impl AsRef<str>) -> Self {
        Self { message: sanitize(message.as_ref()), help: None, zero: false }
    }

    /// The value is zero, which users often write to mean "no limit".
    pub(crate) fn zero(message: impl AsRef<str>) -> Self {
        Self { zero: true, ..Self::new(message) }
    }

    /// Adds what to write instead, in one or several lines.
    #[must_use]
    pub fn help(self, help: impl AsRef<str>) -> Self {
        let lines: Vec<String> = help.as_ref().split('\n').map(sanitize).collect();
        Self { help: Some(lines.join("\n")), ..self }
    }

    /// Adds lines to the help, each after a line break.
    pub(crate) fn more_help(self, lines: &str) -> Self {
        let help = self.help.as_deref().unwrap_or("").to_owned() + lines;
        self.help(help)
    }

    /// Replaces the help if the value is zero.
    pub(crate) fn help_if_zero(self, help: &str) -> Self {
        if self.zero { self.help(help) } else { self }
    }

    /// Returns the `other` problem if the value is zero.
    pub(crate) fn zero_as(self, other: impl FnOnce() -> Self) -> Self {
        if self.zero { other() } else { self }
    }

    /// Whether the message begins like this.
    pub(crate) fn starts_with(&self, beginning: &str) -> bool {
        self.message.starts_with(beginning)
    }

    /// Adds help if there is none yet.
    pub(crate) fn help_if_none(self, help: &str) -> Self {
        if self.help.is_none() { self.help(help) } else { self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Position of a key or value: its path (`route[0].limits.idle`) and its byte range in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) key: String,
    pub(crate) span: Range<usize>,
}

/// One configuration error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `None` for an error that concerns the whole file.
    location: Option<Location>,
    problem: Problem,
}

impl Diagnostic {
    /// An error at one location.
    pub(crate) fn at(location: Location, problem: Problem) -> Self {
        Self { location: Some(location), problem }
    }

    /// An error that concerns the whole file.
    pub(crate) fn for_file(problem: Problem) -> Self {
        Self { location: None, problem }
    }

    /// Path of the key, for example `route[0].limits.idle`. Empty for syntax errors and for errors
    /// that concern the whole file.
    pub fn key(&self) -> &str {
        self.location.as_ref().map_or("", |location| &location.key)
    }

    /// The error message without the location.
    pub fn message(&self) -> &str {
        &self.problem.message
    }

    /// What to write instead, in one or several lines.
    pub fn help(&self) -> Option<&str> {
        self.problem.help.as_deref()
    }

    fn start(&self) -> usize {
        self.location.as_ref().map_or(0, |location| location.span.start)
    }
}

/// All errors of a configuration in file order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    list: Vec<Diagnostic>,
    unlisted: usize,
}

impl Diagnostics {
    /// Creates the list for a file of this name and content. `first` is separate from `rest`
    /// because there is always at least one error.
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

    /// Iterates over the listed errors, at most 100.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Number of errors, including those that are not listed.
    pub fn count(&self) -> usize {
        self.list.len() + self.unlisted
    }

    /// One line for each listed error, for a log:
    /// `proxy.toml:12:8: limits.idle: 30 has no unit (write "30s" for seconds)`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|diagnostic| {
            let mut line = self.heading(diagnostic);
            if let Some(help) = diagnostic.help() {
                let help = help.replace(",\n", ", ").replace('\n', "; ");
                line.push_str(&format!(" ({help})"));
            }
            line
        })
    }

    fn heading(&self, diagnostic: &Diagnostic) -> String {
        let mut heading = self.name.clone();
        if let Some(location) = &diagnostic.location {
            let (line, column) = self.position(location.span.start);
            heading.push_str(&format!(":{}:{}", line + 1, column + 1));
        }
        if !diagnostic.key().is_empty() {
            heading.push_str(&format!(": {}", diagnostic.key()));
        }
        heading.push_str(&format!(": {}", diagnostic.message()));
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
        for diagnostic in &self.list {
            writeln!(f, "{}", self.heading(diagnostic))?;
            let mut indent = 2;
            if let Some(location) = &diagnostic.location {
                let excerpt = self.excerpt(&location.span);
                indent = excerpt.number.len() + 2;
                writeln!(f, " {} | {}", excerpt.number, excerpt.source)?;
                writeln!(f, "{:indent$}| {}{}", "", " ".repeat(excerpt.column), excerpt.carets)?;
            }
            for (row, help) in diagnostic.help().unwrap_or("").lines().enumerate() {
                let label = if row == 0 { "help:" } else { "     " };
                writeln!(f, "{:indent$}{label} {help}", "")?;
            }
            writeln!(f)?;
        }
        let count = self.count();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "{}: {count} {noun}", self.name)?;
        if self.unlisted > 0 {
            write!(f, ", the first {LISTED_MAX} are listed above")?;
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

/// One source line, prepared for a terminal.
struct Excerpt {
    number: String,
    source: String,
    column: usize,
    carets: String,
}

impl Excerpt {
    fn new(number: usize, source: &str, column: usize, marked: usize) -> Self {
        // A line may be megabytes long, so only the part around the error is shown.
        let fits = column + marked <= WIDTH_MAX;
        let skipped = if fits { 0 } else { column.saturating_sub(WIDTH_MAX / 2) };
        let mut rest = source.chars().skip(skipped);
        let shown: String = rest.by_ref().take(WIDTH_MAX).map(printable).collect();
        let before = if skipped > 0 { "..." } else { "" };
        let after = if rest.next().is_some() { "..." } else { "" };
        let column = column - skipped;
        let width = shown.chars().count().saturating_sub(column);
        Self {
            number: number.to_string(),
            source: format!("{before}{}{after}", shown.trim_end()),
            column: column + before.len(),
            carets: "^".repeat(marked.min(width).max(1)),
        }
    }
}

/// Truncates text from the file and replaces characters that control a terminal.
pub(crate) fn sanitize(text: &str) -> String {
    let mut rest = text.chars();
    let mut shown: String = rest.by_ref().take(TEXT_MAX).map(printable).collect();
    if rest.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// Replaces control characters and bidirectional overrides.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Longer lists are not useful to a reader; further errors are only counted.
const LISTED_MAX: usize = 100;
/// Maximum length of a message and of a line of help, in characters.
const TEXT_MAX: usize = 300;
/// Maximum number of characters shown of a source line.
const WIDTH_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let location = Location { key: "a".to_owned(), span };
        let diagnostic = Diagnostic::at(location, Problem::new("wrong").help("do this\nand that"));
        Diagnostics::new("f", text, diagnostic, Vec::new()).to_string()
    }

    #[test]
    fn carets_mark_the_span() {
        assert_eq!(
            shown("b = 1\na = \"ü\" # é\n", 10..14),
            "f:2:5: a: wrong\n 2 | a = \"ü\" # é\n   |     ^^^\n   help: do this\n         and that\n\nf: 1 error"
        );
        // The width of the line number sets the indentation.
        let text = format!("{}a = 1", "\n".repeat(99));
        assert!(
            shown(&text, 103..104).contains("\n 100 | a = 1\n     |     ^\n     help: do this\n")
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_error() {
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
    fn multiline_spans_are_marked_on_the_first_line() {
        assert!(shown("a = {\n}\n", 4..7).contains(" 1 | a = {\n   |     ^\n"));
        assert!(shown("a = 1\n", 6..6).contains("f:2:1: a: wrong\n 2 | \n   | ^\n"));
        assert!(shown("", 0..0).contains("f:1:1: a: wrong\n"));
    }

    #[test]
    fn control_characters_are_replaced() {
        let shown = shown("a = '\u{1b}[2J\u{202e}\t\u{7f}\u{9b}'\r\n", 4..5);
        assert!(
            !shown.contains(['\u{1b}', '\u{202e}', '\t', '\u{7f}', '\u{9b}', '\r']),
            "{shown:?}"
        );
    }

    #[test]
    fn errors_are_sorted_by_position() {
        let diagnostic = |start: usize| {
            let location = Location { key: start.to_string(), span: start..start + 1 };
            Diagnostic::at(location, Problem::new("wrong"))
        };
        let whole = Diagnostic::for_file(Problem::new("empty"));
        let diagnostics =
            Diagnostics::new("f", "abc\ndef\n", diagnostic(5), vec![diagnostic(1), whole]);
        let lines: Vec<String> = diagnostics.lines().collect();
        assert_eq!(lines, ["f: empty", "f:1:2: 1: wrong", "f:2:2: 5: wrong"]);
    }
}
