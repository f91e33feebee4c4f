//! Reads `proxy.toml` into [`Settings`], or reports all its errors at once.

use std::path::Path;

use super::schema::{ConfigFile, known_keys};
use super::settings::Settings;
use super::toml::diagnostic::{Diagnostic, Diagnostics};
use super::toml::late_diagnostic::LateDiagnostic;
use super::toml::sink::DiagnosticSink;
use super::toml::source;
use super::{resolve, source_map};

impl Settings {
    /// Reads a configuration file. Relative paths in it start at the directory of the file.
    ///
    /// # Errors
    ///
    /// All errors of the file, or the reason why it could not be read. Never blocks on a file that
    /// is not a regular file.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        Self::load_with(path, |_| Vec::new())
    }

    /// Like [`Settings::load`]. If the file has errors, those that `outside` finds in the rest of it are
    /// reported with them: settings without the keys that have errors.
    ///
    /// # Errors
    ///
    /// As [`Settings::load`].
    pub fn load_with(
        path: &Path,
        outside: impl FnOnce(&Settings) -> Vec<LateDiagnostic>,
    ) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        let bytes = source::read(path, source::SIZE_MAX).map_err(|problem| {
            Diagnostics::new(&name, "", Diagnostic::for_file(problem), Vec::new())
        })?;
        let text = source::decode(&bytes).map_err(|diagnostic| {
            Diagnostics::new(&name, &String::from_utf8_lossy(&bytes), diagnostic, Vec::new())
        })?;
        let mut settings = Self::from_text(text, &name, Some(path), outside)?;
        settings.source_map.fingerprint = source_map::fingerprint(&bytes);
        Ok(settings)
    }

    /// Parses a text as if it were the content of the file `name`. Relative paths in it start at
    /// the directory of that file.
    ///
    /// # Errors
    ///
    /// All errors of the text.
    pub fn parse(text: &str, name: &str) -> Result<Self, Diagnostics> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::from_text(text, name, None, |_| Vec::new())
    }

    fn from_text(
        text: &str,
        name: &str,
        path: Option<&Path>,
        outside: impl FnOnce(&Settings) -> Vec<LateDiagnostic>,
    ) -> Result<Self, Diagnostics> {
        let dir = path.unwrap_or(Path::new(name)).parent().unwrap_or(Path::new(""));
        let (root, syntax) = source::parse(text)
            .map_err(|diagnostic| Diagnostics::new(name, text, diagnostic, Vec::new()))?;
        let mut sink = DiagnosticSink::new(text, known_keys(), &syntax);
        let file = ConfigFile::read(root.get_ref(), &mut sink);
        let mut settings = resolve::validate(&file, dir, &mut sink);
        settings.file = path.map(Path::to_owned);
        settings.source_map.lines = source_map::lines(text, sink.take_value_offsets());
        let (left, mut found) = sink.into_parts();
        // After a syntax error, what was read may not be what was meant.
        if left.is_empty() && !found.is_empty() {
            let root = Some(root.get_ref());
            let mut more = outside(&settings);
            more.retain(|later| {
                found.iter().all(|known| known.key() != later.key)
                    && !resolve::is_unknown_file(&file, &later.key)
            });
            found.extend(more.iter().map(|later| later.locate(root)));
        }
        let mut diagnostics = source::select_errors(text, &syntax, &left, found).into_iter();
        match diagnostics.next() {
            Some(first) => Err(Diagnostics::new(name, text, first, diagnostics.collect())),
            None => Ok(settings),
        }
    }
}
