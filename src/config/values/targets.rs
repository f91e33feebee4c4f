//! Paths of the access log, of the control socket and of optional files.

use std::path::PathBuf;

use toml::de::DeValue;

use super::scalars::means_unlimited;
use crate::config::settings::ControlSocket;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::type_mismatch;
use crate::config::toml::value::TomlValue;

/// Destination of access records: `"stderr"`, or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordTarget {
    Stderr,
    File(PathBuf),
}

impl TomlValue for RecordTarget {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_bool() == Some(false) {
            return Err(Problem::new("access records cannot be turned off").help(TARGET_HELP));
        }
        let path = PathBuf::read(value)?;
        // These words are not meant as file names.
        let (off, services) =
            (["off", "none", "null"], ["stdout", "syslog", "journal", "journald"]);
        let means =
            |text: &str, words: &[&str]| words.contains(&text.to_ascii_lowercase().as_str());
        match value.as_str() {
            Some("stderr") => Ok(Self::Stderr),
            Some(text) if means(text, &off) => {
                Err(Problem::new("access records cannot be turned off").help(TARGET_HELP))
            }
            Some(text) if means(text, &services) => {
                let problem = format!("access records cannot be written to \"{text}\"");
                Err(Problem::new(problem).help(TARGET_HELP))
            }
            Some(dir) if dir.ends_with('/') => {
                Err(Problem::new(format!("\"{dir}\" is a directory")).help("name the file in it"))
            }
            Some(_) | None => Ok(Self::File(path)),
        }
    }
}

/// The control socket: `"auto"`, `"off"`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSocketPath(pub(crate) ControlSocket);

impl TomlValue for ControlSocketPath {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("auto") => return Ok(Self(ControlSocket::Auto)),
            Some("off") => return Ok(Self(ControlSocket::Off)),
            Some(_) | None => {}
        }
        if value.as_bool() == Some(false) || means_unlimited(value) {
            return Err(type_mismatch("a path", value).help("write \"off\" to turn it off"));
        }
        PathBuf::read(value).map(ControlSocket::At).map(Self)
    }
}

/// A file that need not be given: `"off"`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionalFile(pub(crate) Option<PathBuf>);

impl TomlValue for OptionalFile {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("off") => Ok(Self(None)),
            Some(dir) if dir.ends_with('/') => {
                Err(Problem::new(format!("\"{dir}\" is a directory")).help("name the file in it"))
            }
            _ if value.as_bool() == Some(false) || means_unlimited(value) => {
                Err(type_mismatch("a path", value).help("write \"off\" for none"))
            }
            Some(_) | None => PathBuf::read(value).map(Some).map(Self),
        }
    }
}

const TARGET_HELP: &str =
    "write \"stderr\", which goes to the journal under systemd, or the path of a file";
