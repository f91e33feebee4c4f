//! What we were told: `proxy.toml`, read once, becomes [`Settings`](crate::config::Settings), or
//! the list of everything that is wrong with it.

mod address;
mod choices;
mod difference;
mod effect;
mod farewell;
mod fault;
mod field;
mod file;
mod findings;
mod kinds;
mod later;
mod listing;
mod nearest;
mod network;
pub mod origin;
mod reader;
mod records;
pub mod settings;
mod source;
mod targets;
pub mod units;
mod validate;
pub mod values;
mod written;

pub use difference::{About, Difference, differences};
pub use effect::{Takes, takes_effect};
pub use fault::{Complaint, Fault, Faults};
pub use file::known_keys;
pub use later::Later;
pub use listing::effective;
pub use settings::Settings;
pub use written::Written;

use std::path::Path;

use self::file::ConfigFile;
use self::findings::Findings;

impl Settings {
    /// Reads a file, once. Never blocks on what is no regular file.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let name = path.display().to_string();
        let bytes = source::read(path)
            .map_err(|complaint| Faults::new(&name, "", Fault::whole(complaint), Vec::new()))?;
        let text = source::decode(&bytes).map_err(|fault| {
            Faults::new(&name, &String::from_utf8_lossy(&bytes), fault, Vec::new())
        })?;
        let mut settings = Self::from_text(text, &name, path.parent().unwrap_or(Path::new("")))?;
        settings.file = Some(path.to_owned());
        settings.written.fingerprint = written::fingerprint(&bytes);
        Ok(settings)
    }

    /// Reads a text as if it stood in a file of this name; certificates are looked for beside it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Faults> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::from_text(text, name, Path::new(name).parent().unwrap_or(Path::new("")))
    }

    fn from_text(text: &str, name: &str, folder: &Path) -> Result<Self, Faults> {
        let (root, syntax) =
            source::parse(text).map_err(|fault| Faults::new(name, text, fault, Vec::new()))?;
        let mut findings = Findings::new(text, known_keys(), &syntax);
        let file = ConfigFile::read(root.get_ref(), &mut findings);
        let mut settings = validate::validate(&file, folder, &mut findings);
        settings.written.lines = written::lines(text, findings.take_places());
        let (left, found) = findings.into_parts();
        let mut faults = source::verdict(text, &syntax, &left, found).into_iter();
        match faults.next() {
            Some(first) => Err(Faults::new(name, text, first, faults.collect())),
            None => Ok(settings),
        }
    }
}

#[cfg(test)]
mod tests;
