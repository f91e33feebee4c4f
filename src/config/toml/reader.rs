//! Reads a TOML document key by key and collects all errors, where serde would stop at the first.
//! A key that is never requested is unknown, so the code that reads is the only list of keys. This
//! module does not know what the keys mean.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Location, Problem};
use super::key_path::{header, join, without_indices};
use super::scalar::type_mismatch;
use super::sink::DiagnosticSink;
use super::synonyms::Synonym;
use super::value::{Located, Parsed, TomlValue};

/// Reads the keys of one table. If the table is not in the document, all its keys are missing.
pub(crate) struct TableReader<'f, 'd, 't> {
    sink: &'f mut DiagnosticSink<'t>,
    entries: Option<&'d DeTable<'d>>,
    location: Location,
    requested: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
}

impl<'f, 'd, 't> TableReader<'f, 'd, 't> {
    /// Reads a table with `read`, then reports the keys that `read` did not request and the
    /// required keys that are missing.
    pub(crate) fn read<T>(
        sink: &'f mut DiagnosticSink<'t>,
        entries: Option<&'d DeTable<'d>>,
        location: Location,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let (requested, missing) = (Vec::new(), Vec::new());
        let mut table = Self { sink, entries, location, requested, missing };
        let result = read(&mut table);
        table.finish();
        result
    }

    /// Whether the document has the table.
    pub(crate) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// Path and header of the table.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Reads an optional key.
    pub(crate) fn get<T: TomlValue>(&mut self, key: &'static str) -> Parsed<T> {
        self.get_with(key, |sink, location, value| sink.value(location, value))
    }

    /// Reads an optional key with `read`, which receives a value of any type.
    pub(crate) fn get_with<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut DiagnosticSink<'t>, Location, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<T> {
        match self.find(key) {
            Some((location, value)) => read(self.sink, location, value),
            None => Parsed::Missing,
        }
    }

    /// Reads an optional list of values.
    pub(crate) fn list<T: TomlValue>(&mut self, key: &'static str) -> Parsed<Vec<Located<T>>> {
        self.list_or_suggest(key, T::list_help, |sink, location, value| sink.value(location, value))
    }

    /// Reads an optional list; `item` reads each item. The list is invalid if any item is.
    pub(crate) fn list_with<T>(
        &mut self,
        key: &'static str,
        item: impl FnMut(&mut DiagnosticSink<'t>, Location, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<Vec<Located<T>>> {
        self.list_or_suggest(key, |_, _| None, item)
    }

    fn list_or_suggest<T>(
        &mut self,
        key: &'static str,
        suggest: impl Fn(&str, &DeValue<'_>) -> Option<String>,
        mut item: impl FnMut(&mut DiagnosticSink<'t>, Location, &'d DeValue<'d>) -> Parsed<T>,
    ) -> Parsed<Vec<Located<T>>> {
        let Some((location, value)) = self.find(key) else {
            return Parsed::Missing;
        };
        let Some(array) = value.as_array() else {
            let problem = type_mismatch("a list", value);
            let help = suggest(key, value)
                .unwrap_or_else(|| format!("write [{}]", self.sink.source_text(&location)));
            self.sink.report(&location, problem.help(help));
            return Parsed::Invalid;
        };
        let mut items = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            match item(self.sink, nth(&location, index, value), value.get_ref()) {
                Parsed::Valid(located) => items.push(located),
                Parsed::Missing | Parsed::Invalid => {}
            }
        }
        if items.len() < array.len() {
            return Parsed::Invalid;
        }
        Parsed::Valid(Located { value: items, location })
    }

    /// Reads a table that may appear once, `[key]`.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut TableReader<'_, 'd, 't>) -> T,
    ) -> T {
        let (location, entries) = match self.find(key) {
            None => {
                (Location { key: join(&self.location.key, key), ..self.location.clone() }, None)
            }
            Some((location, value)) => {
                if !value.is_table() {
                    let meant = match Synonym::of(&format!("[[{key}]]")) {
                        Some(synonym) if value.is_array() => synonym.help(),
                        Some(_) | None => {
                            format!("write {}, once", header(&without_indices(&location.key)))
                        }
                    };
                    self.sink.report(&location, type_mismatch("a table", value).help(meant));
                }
                // The first table of `[[key]]` is read, so that errors in it are reported as well.
                let first = value.as_array().and_then(|array| array.first());
                let entries = first.map_or(value, Spanned::get_ref).as_table();
                (location, entries)
            }
        };
        TableReader::read(self.sink, entries, location, read)
    }

    /// Reads a table that may appear several times, `[[key]]`.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut TableReader<'_, 'd, 't>) -> T,
    ) -> Parsed<Vec<T>> {
        let Some((location, value)) = self.find(key) else {
            return Parsed::Missing;
        };
        let meant = format!("write [[{}]]", without_indices(&location.key));
        if let Some(entries) = value.as_table() {
            let problem = Problem::new("a list of tables needs double brackets");
            self.sink.report(&location, problem.help(meant));
            let first = Location { key: format!("{}[0]", location.key), ..location.clone() };
            let tables = vec![TableReader::read(self.sink, Some(entries), first, &mut read)];
            return Parsed::Valid(Located { value: tables, location });
        }
        let Some(array) = value.as_array() else {
            self.sink.report(&location, type_mismatch("a table", value).help(meant));
            return Parsed::Invalid;
        };
        let mut tables = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            let location = nth(&location, index, value);
            let Some(entries) = value.get_ref().as_table() else {
                self.sink.report(&location, type_mismatch("a table", value.get_ref()).help(&meant));
                continue;
            };
            tables.push(TableReader::read(self.sink, Some(entries), location, &mut read));
        }
        if tables.is_empty() && !array.is_empty() {
            return Parsed::Invalid;
        }
        Parsed::Valid(Located { value: tables, location })
    }

    /// Marks a key as required. `given` is the result of `get`, `list` or `list_with`; `help` says
    /// what to write if the key is missing.
    pub(crate) fn require<T>(
        &mut self,
        key: &'static str,
        help: &'static str,
        given: Parsed<T>,
    ) -> Parsed<T> {
        match given {
            Parsed::Missing => {
                self.missing.push((key, help));
                Parsed::Invalid
            }
            Parsed::Invalid | Parsed::Valid(_) => given,
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(Location, &'d DeValue<'d>)> {
        self.requested.push(key);
        let value = self.entries?.get(key)?;
        let location = Location { key: join(&self.location.key, key), span: value.span() };
        self.sink.record_location(&location);
        Some((location, value.get_ref()))
    }

    fn finish(mut self) {
        self.sink.record_keys(&without_indices(&self.location.key), &self.requested);
        for (key, value) in self.entries.into_iter().flatten() {
            if self.requested.contains(&key.get_ref().as_ref()) {
                continue;
            }
            // Errors inside the value of an unknown key are not reported separately.
            self.sink.take_syntax_errors(&value.span(), value.get_ref());
            let meant =
                self.sink.report_unknown_key(&self.location, key, value.get_ref(), &self.requested);
            // A misspelled key is not reported as missing as well.
            self.missing.retain(|(key, _)| meant != Some(*key));
        }
        for (key, help) in &self.missing {
            let location = Location { key: join(&self.location.key, key), ..self.location.clone() };
            self.sink.report(&location, Problem::new("this key is missing").help(*help));
        }
    }
}

fn nth(list: &Location, index: usize, value: &Spanned<DeValue<'_>>) -> Location {
    Location { key: format!("{}[{index}]", list.key), span: value.span() }
}
