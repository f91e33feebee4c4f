//! The rows of the configuration listing, in groups.

use super::value::DisplayValue;
use crate::config::explain::effect::AppliesTo;
use crate::config::settings::Settings;

/// The keys of a table or list item, which are added and removed together.
#[derive(Debug)]
pub(crate) struct KeyGroup {
    /// Path of the table, for example `route[0]`.
    pub(crate) prefix: String,
    pub(crate) entries: Vec<KeyEntry>,
}

/// One row of the listing.
#[derive(Debug)]
pub(crate) struct KeyEntry {
    /// Path of the key within the group, for example `limits.idle`.
    pub(crate) name: String,
    pub(crate) value: DisplayValue,
    /// When a change of this key takes effect.
    pub(crate) applies_to: AppliesTo,
    /// The key that provides the value if this one is not in the file.
    pub(crate) inherited_from: Option<String>,
}

impl KeyGroup {
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), entries: Vec::new() }
    }

    /// Adds a key that has a fixed default.
    pub(crate) fn add(&mut self, name: &str, applies_to: AppliesTo, value: DisplayValue) {
        self.entries.push(KeyEntry {
            name: name.to_owned(),
            value,
            applies_to,
            inherited_from: None,
        });
    }

    /// Adds a key that defaults to the value of the key `inherited_from`.
    pub(crate) fn add_inherited(
        &mut self,
        name: &str,
        applies_to: AppliesTo,
        value: DisplayValue,
        inherited_from: impl Into<String>,
    ) {
        let inherited_from = Some(inherited_from.into());
        self.entries.push(KeyEntry { name: name.to_owned(), value, applies_to, inherited_from });
    }

    /// The full path of an entry, for example `route[0].limits.idle`.
    pub(crate) fn key(&self, entry: &KeyEntry) -> String {
        format!("{}.{}", self.prefix, entry.name)
    }

    /// The line that sets an entry: its own or, for a backend in short form, the line of the item.
    pub(crate) fn line(&self, entry: &KeyEntry, settings: &Settings) -> Option<usize> {
        let own = settings.source_map.line(&self.key(entry));
        let short_form =
            || (entry.name == "address").then(|| settings.source_map.line(&self.prefix)).flatten();
        own.or_else(short_form)
    }
}
