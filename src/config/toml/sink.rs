//! Collects the errors found while a document is read, and the locations of its keys.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, Location, Problem, sanitize};
use super::key_path::{header, join};
use super::nearest::nearest;
use super::source::{self, SyntaxError};
use super::synonyms::Synonym;
use super::value::{Located, Parsed, TomlValue};
use super::variables::or_variable;

/// The text of a document and the errors found in it.
pub(crate) struct DiagnosticSink<'t> {
    text: &'t str,
    /// Syntax errors that the parser recovered from, by their start; an error is removed when the
    /// value that contains it is read.
    syntax: BTreeMap<usize, SyntaxError>,
    diagnostics: Vec<Diagnostic>,
    /// All known keys, to suggest the right table for a misplaced one.
    known: &'t [String],
    /// The keys that were requested, if they are recorded.
    requested: Option<BTreeSet<String>>,
    /// The keys that the document contains, and where their values begin.
    locations: Vec<(String, usize)>,
}

impl<'t> DiagnosticSink<'t> {
    /// Creates a sink that contains only the parser's errors.
    pub(crate) fn new(text: &'t str, known: &'t [String], syntax: &[SyntaxError]) -> Self {
        let by_start = |error: &SyntaxError| (error.0.start, error.clone());
        // Of errors at the same position, a missing quote is the cause, or else what the parser found first.
        let open = syntax.iter().filter(|(_, message)| source::is_open_string(message));
        let syntax = syntax.iter().rev().chain(open).map(by_start).collect();
        Self {
            text,
            syntax,
            diagnostics: Vec::new(),
            known,
            requested: None,
            locations: Vec::new(),
        }
    }

    /// Creates a sink that records every key that is requested.
    pub(crate) fn recording_keys(text: &'t str) -> Self {
        Self { requested: Some(BTreeSet::new()), ..Self::new(text, &[], &[]) }
    }

    /// The requested keys, for example `route[].limits.idle`; empty unless they were recorded.
    pub(crate) fn into_requested_keys(self) -> Vec<String> {
        self.requested.into_iter().flatten().collect()
    }

    /// Records the location of a key or list item.
    pub(crate) fn record_location(&mut self, location: &Location) {
        self.locations.push((location.key.clone(), location.span.start));
    }

    /// Takes what was recorded: key path and byte offset of the value.
    pub(crate) fn take_value_offsets(&mut self) -> Vec<(String, usize)> {
        mem::take(&mut self.locations)
    }

    /// The syntax errors that are not part of any value read, and the reported errors.
    pub(crate) fn into_parts(self) -> (Vec<SyntaxError>, Vec<Diagnostic>) {
        (self.syntax.into_values().collect(), self.diagnostics)
    }

    /// Reports an error at one location.
    pub(crate) fn report(&mut self, location: &Location, problem: Problem) {
        if self.diagnostics.len() < DIAGNOSTICS_MAX {
            self.diagnostics.push(Diagnostic::at(location.clone(), problem));
        }
    }

    /// Reports an error that concerns the whole file.
    pub(crate) fn report_file(&mut self, problem: Problem) {
        self.diagnostics.push(Diagnostic::for_file(problem));
    }

    /// The source text at a location.
    pub(crate) fn source_text(&self, location: &Location) -> &'t str {
        self.text.get(location.span.clone()).unwrap_or("")
    }

    /// Reads one value. A scalar without quotes is read as if it were quoted, and reported.
    pub(crate) fn value<T: TomlValue>(
        &mut self,
        location: Location,
        value: &DeValue<'_>,
    ) -> Parsed<T> {
        let read = match self.take_syntax_errors(&location.span, value) {
            Some(error) => self.unquoted(&location, error),
            None => T::read(value)
                .map_err(|problem| (location.span.clone(), or_variable(problem, value.as_str()))),
        };
        match read {
            Ok(value) => Parsed::Valid(Located { value, location }),
            Err((span, problem)) => {
                self.report(&Location { span, ..location }, problem);
                Parsed::Invalid
            }
        }
    }

    fn unquoted<T: TomlValue>(
        &mut self,
        location: &Location,
        error: SyntaxError,
    ) -> Result<T, (Range<usize>, Problem)> {
        let raw = self.source_text(location);
        let problem = source::syntax_problem(self.text, &error);
        if raw.is_empty() || raw.starts_with(['"', '\'']) {
            return Err((error.0, problem));
        }
        let value = T::read(&DeValue::String(raw.into()));
        let value =
            value.map_err(|problem| (location.span.clone(), or_variable(problem, Some(raw))))?;
        let unquoted = Problem::new("text must be in double quotes");
        self.report(location, unquoted.help(format!("write \"{raw}\"")));
        Ok(value)
    }

    /// Removes the syntax errors inside a scalar and returns the first. Errors inside a list or
    /// table are kept, because an unclosed list extends over everything after it.
    pub(crate) fn take_syntax_errors(
        &mut self,
        span: &Range<usize>,
        value: &DeValue<'_>,
    ) -> Option<SyntaxError> {
        if value.is_array() || value.is_table() {
            return None;
        }
        let inside = |(at, error): (&usize, &SyntaxError)| (error.0.end <= span.end).then_some(*at);
        let mut first = None;
        while let Some(at) = self.syntax.range(span.start..=span.end).find_map(inside) {
            let error = self.syntax.remove(&at);
            first = first.or(error);
        }
        first
    }

    /// Records the keys requested of one table, for example `route[].limits`.
    pub(crate) fn record_keys(&mut self, table: &str, keys: &[&str]) {
        if let Some(requested) = &mut self.requested {
            requested.extend(keys.iter().map(|key| join(table, key)));
        }
    }

    /// Reports a key that is not one of the table's `keys`. Returns the key of this table that was
    /// probably meant.
    pub(crate) fn report_unknown_key<'k>(
        &mut self,
        table: &Location,
        key: &Spanned<Cow<'_, str>>,
        value: &DeValue<'_>,
        keys: &[&'k str],
    ) -> Option<&'k str> {
        // Finding a suggestion is expensive, and errors beyond the limit are not shown.
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            return None;
        }
        let name = &*sanitize(key.get_ref());
        let location = Location { key: join(&table.key, name), span: key.span() };
        let elsewhere = self.tables_with(name);
        let first = value.as_array().and_then(|list| list.first());
        let is_table = first.map_or(value, Spanned::get_ref).is_table();
        // A block of another program may have the name of a key.
        let block = (is_table && table.key.is_empty()).then(|| format!("[{name}]"));
        let block = block.and_then(|header| Synonym::of(&header));
        let synonym = block.or_else(|| Synonym::of(&location.key));
        let meant = match synonym {
            Some(synonym) => synonym.key_in(&table.key, keys),
            None => nearest(name, keys.iter().copied()),
        };
        let help = match (meant, synonym) {
            (Some(meant), _) => format!("did you mean \"{meant}\"?"),
            (None, Some(synonym)) => synonym.help(),
            (None, None) if elsewhere.is_empty() => wrap_list("the keys here are", keys),
            (None, None) => format!("\"{name}\" belongs {}", elsewhere.join(" or ")),
        };
        let noun = if is_table { "table" } else { "key" };
        self.report(&location, Problem::new(format!("unknown {noun}")).help(help));
        meant
    }

    fn tables_with(&self, name: &str) -> Vec<String> {
        let table = |known: &String| match known.rsplit_once('.') {
            Some((table, key)) => (key == name).then(|| format!("in {}", header(table))),
            None => (known == name).then(|| "at the top level".to_owned()),
        };
        self.known.iter().filter_map(table).collect()
    }
}

/// Appends a list to `beginning`, broken into lines of at most [`LINE_MAX`] characters.
fn wrap_list(beginning: &str, list: &[&str]) -> String {
    let mut lines = beginning.to_owned();
    let mut width = lines.len();
    for (index, word) in list.iter().enumerate() {
        let comma = if index + 1 < list.len() { "," } else { "" };
        width += 1 + word.len() + comma.len();
        let fits = width <= LINE_MAX;
        width = if fits { width } else { word.len() + comma.len() };
        let between = if fits { " " } else { "\n" };
        lines.push_str(&format!("{between}{word}{comma}"));
    }
    lines
}

/// Errors beyond this number are neither kept nor counted.
const DIAGNOSTICS_MAX: usize = 10_000;
/// Maximum width of a line of help that lists keys, in characters.
const LINE_MAX: usize = 90;
