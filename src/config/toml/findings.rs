//! What was found wrong while a document was read, and the places it was found in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, KeyPath, Problem, shown};
use super::nearest::nearest;
use super::reader::{Located, Parsed, TomlValue};
use super::source::{self, SyntaxErrors};
use super::synonyms::synonym;

/// The document's text, and everything that was found wrong with it.
pub(crate) struct DiagnosticSink<'t> {
    text: &'t str,
    /// Faults of syntax that the parser got over, by where they begin; each is taken out when the
    /// value it belongs to is read.
    syntax: BTreeMap<usize, SyntaxErrors>,
    faults: Vec<Diagnostic>,
    /// All keys there are, for a key that stands in the wrong table.
    known: &'t [String],
    /// Where the keys that are asked for are noted, if anybody wants to know.
    asked: Option<BTreeSet<String>>,
    /// The keys that are in the document, and where their values begin.
    places: Vec<(String, usize)>,
}

impl<'t> DiagnosticSink<'t> {
    /// Nothing found yet but what the parser found.
    pub(crate) fn new(text: &'t str, known: &'t [String], syntax: &[SyntaxErrors]) -> Self {
        let by_start = |wrong: &SyntaxErrors| (wrong.0.start, wrong.clone());
        // Of two in one place the parser's first is the cause.
        let syntax = syntax.iter().rev().map(by_start).collect();
        Self { text, syntax, faults: Vec::new(), known, asked: None, places: Vec::new() }
    }

    /// Notes every key that is asked for.
    pub(crate) fn noting(text: &'t str) -> Self {
        Self { asked: Some(BTreeSet::new()), ..Self::new(text, &[], &[]) }
    }

    /// The keys that were asked for, as in `route[].limits.idle`, if they were noted.
    pub(crate) fn into_asked(self) -> Vec<String> {
        self.asked.into_iter().flatten().collect()
    }

    /// Remembers where a key or an item stands.
    pub(crate) fn stands(&mut self, place: &KeyPath) {
        self.places.push((place.key.clone(), place.span.start));
    }

    /// What was remembered.
    pub(crate) fn take_places(&mut self) -> Vec<(String, usize)> {
        mem::take(&mut self.places)
    }

    /// The faults of syntax that no value has claimed, and the faults that were found.
    pub(crate) fn into_parts(self) -> (Vec<SyntaxErrors>, Vec<Diagnostic>) {
        (self.syntax.into_values().collect(), self.faults)
    }

    /// A fault in one place.
    pub(crate) fn fault(&mut self, place: &KeyPath, complaint: Problem) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Diagnostic::at(place.clone(), complaint));
        }
    }

    /// A fault of the file as a whole.
    pub(crate) fn whole(&mut self, complaint: Problem) {
        self.faults.push(Diagnostic::whole(complaint));
    }

    /// What stands in the file at this place.
    pub(crate) fn raw(&self, place: &KeyPath) -> &'t str {
        self.text.get(place.span.clone()).unwrap_or("")
    }

    /// Reads one value; a scalar without its quotes is read as if it had them, and reported.
    pub(crate) fn value<T: TomlValue>(&mut self, place: KeyPath, value: &DeValue<'_>) -> Parsed<T> {
        let read = match self.claim_syntax(&place.span, value) {
            Some(wrong) => self.unquoted(&place, wrong),
            None => T::read(value).map_err(|complaint| (place.span.clone(), complaint)),
        };
        match read {
            Ok(value) => Parsed::Here(Located { value, place }),
            Err((span, complaint)) => {
                self.fault(&KeyPath { span, ..place }, complaint);
                Parsed::Faulty
            }
        }
    }

    fn unquoted<T: TomlValue>(
        &mut self,
        place: &KeyPath,
        wrong: SyntaxErrors,
    ) -> Result<T, (Range<usize>, Problem)> {
        let raw = self.raw(place);
        let complaint = source::complaint(self.text, &wrong);
        if raw.is_empty() || raw.starts_with(['"', '\'']) {
            return Err((wrong.0, complaint));
        }
        let value = T::read(&DeValue::String(raw.into()));
        let value = value.map_err(|complaint| (place.span.clone(), complaint))?;
        let quotes = Problem::new("text stands in double quotes");
        self.fault(place, quotes.help(format!("write \"{raw}\"")));
        Ok(value)
    }

    /// Takes out the faults of syntax that lie inside this scalar, and returns the first. One in a
    /// list or table is nobody's: an unclosed list takes in all that follows.
    pub(crate) fn claim_syntax(
        &mut self,
        span: &Range<usize>,
        value: &DeValue<'_>,
    ) -> Option<SyntaxErrors> {
        if value.is_array() || value.is_table() {
            return None;
        }
        let inside =
            |(at, wrong): (&usize, &SyntaxErrors)| (wrong.0.end <= span.end).then_some(*at);
        let mut first = None;
        while let Some(at) = self.syntax.range(span.start..=span.end).find_map(inside) {
            let wrong = self.syntax.remove(&at);
            first = first.or(wrong);
        }
        first
    }

    /// Notes the keys of one table, `route[].limits`.
    pub(crate) fn note(&mut self, table: &str, keys: &[&str]) {
        if let Some(asked) = &mut self.asked {
            asked.extend(keys.iter().map(|key| join(table, key)));
        }
    }

    /// Complains about a key that nobody asked for. Returns the key that was meant, if it is one
    /// of this table.
    pub(crate) fn unknown<'k>(
        &mut self,
        table: &KeyPath,
        key: &Spanned<Cow<'_, str>>,
        value: &DeValue<'_>,
        keys: &[&'k str],
    ) -> Option<&'k str> {
        // To find out what was meant takes time, and nobody reads ten thousand answers.
        if self.faults.len() >= FAULTS_MAX {
            return None;
        }
        let name = &*shown(key.get_ref());
        let place = KeyPath { key: join(&table.key, name), span: key.span() };
        let elsewhere = self.tables_with(name);
        let meant = synonym(&place.key)
            .and_then(|meant| keys.iter().copied().find(|key| *key == meant))
            .or_else(|| nearest(name, keys.iter().copied()));
        let help = match meant {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if elsewhere.is_empty() => in_lines("the keys here are", keys),
            None => format!("\"{name}\" belongs {}", elsewhere.join(" or ")),
        };
        let noun = if value.is_table() { "table" } else { "key" };
        self.fault(&place, Problem::new(format!("unknown {noun}")).help(help));
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

/// The beginning and the list behind it, broken where it would be too long for one line of help.
fn in_lines(beginning: &str, list: &[&str]) -> String {
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

/// The path of a key in a table.
pub(crate) fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// `route[].limits` -> `[route.limits]`, `route[]` -> `[[route]]`.
pub(crate) fn header(table: &str) -> String {
    let name = table.replace("[]", "");
    if table.ends_with("[]") { format!("[[{name}]]") } else { format!("[{name}]") }
}

/// Faults beyond this are not even counted.
const FAULTS_MAX: usize = 10_000;
/// Most characters of a line of a list.
const LINE_MAX: usize = 90;
