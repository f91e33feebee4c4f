//! Reads `proxy.toml` once: text to document, document to [`Settings`], or every diagnostic at once.

use std::path::Path;

use super::schema::{ConfigFile, known_keys};
use super::settings::Settings;
use super::toml::diagnostic::{Diagnostic, Diagnostics};
use super::toml::findings::DiagnosticSink;
use super::toml::source;
use super::{resolve, written};

impl Settings {
    /// Reads a file, once. Never blocks on what is no regular file.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        let bytes = source::read(path).map_err(|complaint| {
            Diagnostics::new(&name, "", Diagnostic::whole(complaint), Vec::new())
        })?;
        let text = source::decode(&bytes).map_err(|fault| {
            Diagnostics::new(&name, &String::from_utf8_lossy(&bytes), fault, Vec::new())
        })?;
        let mut settings = Self::from_text(text, &name, path.parent().unwrap_or(Path::new("")))?;
        settings.file = Some(path.to_owned());
        settings.written.fingerprint = written::fingerprint(&bytes);
        Ok(settings)
    }

    /// Reads a text as if it stood in a file of this name; certificates are looked for beside it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Diagnostics> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::from_text(text, name, Path::new(name).parent().unwrap_or(Path::new("")))
    }

    fn from_text(text: &str, name: &str, folder: &Path) -> Result<Self, Diagnostics> {
        let (root, syntax) =
            source::parse(text).map_err(|fault| Diagnostics::new(name, text, fault, Vec::new()))?;
        let mut findings = DiagnosticSink::new(text, known_keys(), &syntax);
        let file = ConfigFile::read(root.get_ref(), &mut findings);
        let mut settings = resolve::validate(&file, folder, &mut findings);
        settings.written.lines = written::lines(text, findings.take_places());
        let (left, found) = findings.into_parts();
        let mut faults = source::verdict(text, &syntax, &left, found).into_iter();
        match faults.next() {
            Some(first) => Err(Diagnostics::new(name, text, first, faults.collect())),
            None => Ok(settings),
        }
    }
}
