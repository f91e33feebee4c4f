//! Reads a TOML document key by key and collects what is wrong on the way, where serde would stop
//! at the first fault. A key that nobody asked for is unknown, so the code that reads is the only
//! list of keys there is. Knows nothing of what the keys mean.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{KeyPath, Problem};
use super::findings::{DiagnosticSink, header, join};

/// A value that can stand behind a key.
pub(crate) trait TomlValue: Sized {
    /// Reads it, whatever TOML type it has.
    fn read(value: &DeValue<'_>) -> Result<Self, Problem>;

    /// How a list of them would be written, if this table is what was taken for one.
    fn listed(_table: &DeTable<'_>) -> Option<String> {
        None
    }
}

/// A value that was read, and where.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) place: KeyPath,
}

/// What became of a key.
#[derive(Clone, Debug)]
pub(crate) enum Parsed<T> {
    /// Not in the file: the default holds.
    Absent,
    /// In the file, and already complained about.
    Faulty,
    /// In the file.
    Here(Located<T>),
}

impl<T> Parsed<T> {
    /// Value and place, if it is in the file and lawful.
    pub(crate) fn here(&self) -> Option<&Located<T>> {
        match self {
            Self::Here(at) => Some(at),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// The value, if it is in the file and lawful.
    pub(crate) fn value(&self) -> Option<&T> {
        self.here().map(|at| &at.value)
    }

    /// Where it stands, if it is in the file and lawful.
    pub(crate) fn place(&self) -> Option<&KeyPath> {
        self.here().map(|at| &at.place)
    }

    /// The same, with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Self::Absent => Parsed::Absent,
            Self::Faulty => Parsed::Faulty,
            Self::Here(Located { value, place }) => {
                Parsed::Here(Located { value: change(value), place })
            }
        }
    }

    /// Whether it was complained about, so that nothing can be said about its value.
    pub(crate) fn is_faulty(&self) -> bool {
        matches!(self, Self::Faulty)
    }
}

/// One table of the document; an absent one answers that every key is absent.
pub(crate) struct TableReader<'f, 'd, 't> {
    findings: &'f mut DiagnosticSink<'t>,
    entries: Option<&'d DeTable<'d>>,
    place: KeyPath,
    asked: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
}

impl<'f, 'd, 't> TableReader<'f, 'd, 't> {
    /// Lets `read` ask for the keys of a table, then complains about what it did not ask for, and
    /// about what it required and did not get.
    pub(crate) fn read<T>(
        findings: &'f mut DiagnosticSink<'t>,
        entries: Option<&'d DeTable<'d>>,
        place: KeyPath,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let (asked, missing) = (Vec::new(), Vec::new());
        let mut table = Self { findings, entries, place, asked, missing };
        let result = read(&mut table);
        table.finish();
        result
    }

    /// Where it begins.
    pub(crate) fn place(&self) -> &KeyPath {
        &self.place
    }

    /// A key that may be left out.
    pub(crate) fn get<T: TomlValue>(&mut self, key: &'static str) -> Parsed<T> {
        self.item(key, |findings, place, value| findings.value(place, value))
    }

    /// A key that may be left out, whose value `read` reads, be it a table or not.
    pub(crate) fn item<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut DiagnosticSink<'t>, KeyPath, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<T> {
        match self.find(key) {
            Some((place, value)) => read(self.findings, place, value),
            None => Parsed::Absent,
        }
    }

    /// A list of values that may be left out.
    pub(crate) fn list<T: TomlValue>(&mut self, key: &'static str) -> Parsed<Vec<Located<T>>> {
        self.items_or(key, T::listed, |findings, place, value| findings.value(place, value))
    }

    /// A list that may be left out, whose items `item` reads; it is as faulty as any of them.
    pub(crate) fn items<T>(
        &mut self,
        key: &'static str,
        item: impl FnMut(&mut DiagnosticSink<'t>, KeyPath, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<Vec<Located<T>>> {
        self.items_or(key, |_| None, item)
    }

    fn items_or<T>(
        &mut self,
        key: &'static str,
        listed: impl Fn(&DeTable<'_>) -> Option<String>,
        mut item: impl FnMut(&mut DiagnosticSink<'t>, KeyPath, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<Vec<Located<T>>> {
        let Some((place, value)) = self.find(key) else {
            return Parsed::Absent;
        };
        let Some(array) = value.as_array() else {
            let wrong = Problem::new(format!("expected a list, found {}", describe(value)));
            let help = match value.as_table().and_then(listed) {
                Some(listed) => format!("write {key} = {listed}"),
                None => format!("write [{}]", self.findings.raw(&place)),
            };
            self.findings.fault(&place, wrong.help(help));
            return Parsed::Faulty;
        };
        let mut items = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            match item(self.findings, nth(&place, index, value), value.get_ref()) {
                Parsed::Here(at) => items.push(at),
                Parsed::Absent | Parsed::Faulty => {}
            }
        }
        if items.len() < array.len() {
            return Parsed::Faulty;
        }
        Parsed::Here(Located { value: items, place })
    }

    /// A table that is written at most once, `[key]`.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut TableReader<'_, 'd, 't>) -> T,
    ) -> T {
        let (place, entries) = match self.find(key) {
            None => (KeyPath { key: join(&self.place.key, key), ..self.place.clone() }, None),
            Some((place, value)) => {
                if !value.is_table() {
                    let meant = format!("write {}, once", header(&generic(&place.key)));
                    self.findings.fault(&place, not_a_table(value).help(meant));
                }
                // Of `[[key]]` the first is read, so that what is wrong in it is told as well.
                let first = value.as_array().and_then(|array| array.first());
                let entries = first.map_or(value, Spanned::get_ref).as_table();
                (place, entries)
            }
        };
        TableReader::read(self.findings, entries, place, read)
    }

    /// A table that may be written many times, `[[key]]`.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut TableReader<'_, 'd, 't>) -> T,
    ) -> Parsed<Vec<T>> {
        let Some((place, value)) = self.find(key) else {
            return Parsed::Absent;
        };
        let meant = format!("write [[{}]]", generic(&place.key));
        if let Some(entries) = value.as_table() {
            let wrong = Problem::new("there may be several of these, so the brackets are double");
            self.findings.fault(&place, wrong.help(meant));
            let first = KeyPath { key: format!("{}[0]", place.key), ..place.clone() };
            let tables = vec![TableReader::read(self.findings, Some(entries), first, &mut read)];
            return Parsed::Here(Located { value: tables, place });
        }
        let Some(array) = value.as_array() else {
            self.findings.fault(&place, not_a_table(value).help(meant));
            return Parsed::Faulty;
        };
        let mut tables = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            let place = nth(&place, index, value);
            let Some(entries) = value.get_ref().as_table() else {
                self.findings.fault(&place, not_a_table(value.get_ref()).help(&meant));
                continue;
            };
            tables.push(TableReader::read(self.findings, Some(entries), place, &mut read));
        }
        if tables.is_empty() && !array.is_empty() {
            return Parsed::Faulty;
        }
        Parsed::Here(Located { value: tables, place })
    }

    /// What `get`, `list` or `items` gave for a key that may not be left out.
    pub(crate) fn require<T>(
        &mut self,
        key: &'static str,
        help: &'static str,
        given: Parsed<T>,
    ) -> Parsed<T> {
        match given {
            Parsed::Absent => {
                self.missing.push((key, help));
                Parsed::Faulty
            }
            Parsed::Faulty | Parsed::Here(_) => given,
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(KeyPath, &'d DeValue<'d>)> {
        self.asked.push(key);
        let value = self.entries?.get(key)?;
        let place = KeyPath { key: join(&self.place.key, key), span: value.span() };
        self.findings.stands(&place);
        Some((place, value.get_ref()))
    }

    fn finish(mut self) {
        self.findings.note(&generic(&self.place.key), &self.asked);
        for (key, value) in self.entries.into_iter().flatten() {
            if self.asked.contains(&key.get_ref().as_ref()) {
                continue;
            }
            // What is wrong inside the value of an unknown key is not worth a line of its own.
            self.findings.claim_syntax(&value.span(), value.get_ref());
            let meant = self.findings.unknown(&self.place, key, value.get_ref(), &self.asked);
            // A key that is only misspelt is not missing as well.
            self.missing.retain(|(key, _)| meant != Some(*key));
        }
        for (key, help) in &self.missing {
            let place = KeyPath { key: join(&self.place.key, key), ..self.place.clone() };
            self.findings.fault(&place, Problem::new("this key is missing").help(*help));
        }
    }
}

/// What a value is, for people.
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let shown: String = text.chars().take(SHOWN_MAX).collect();
            let more = if shown.len() < text.len() { "..." } else { "" };
            format!("\"{}{more}\"", shown.escape_debug())
        }
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(switch) => switch.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn not_a_table(value: &DeValue<'_>) -> Problem {
    Problem::new(format!("expected a table, found {}", describe(value)))
}

fn nth(list: &KeyPath, index: usize, value: &Spanned<DeValue<'_>>) -> KeyPath {
    KeyPath { key: format!("{}[{index}]", list.key), span: value.span() }
}

/// `route[3].limits` -> `route[].limits`.
pub(crate) fn generic(key: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let parts: Vec<&str> = key.split('[').map(|part| part.trim_start_matches(digit)).collect();
    parts.join("[")
}

/// Most characters of a text that a problem repeats.
const SHOWN_MAX: usize = 60;
