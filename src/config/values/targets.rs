//! Places in the file system where something of ours is: the records, the control socket.

use std::path::PathBuf;

use toml::de::DeValue;

use super::scalars::{is_no_limit, unexpected};
use crate::config::settings::ControlSocket;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::reader::TomlValue;

/// Where records go: `"stderr"`, or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordTarget {
    Stderr,
    File(PathBuf),
}

impl TomlValue for RecordTarget {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.as_bool() == Some(false) {
            return Err(unexpected("a place for records", value).help(RECORDS_TO));
        }
        let path = PathBuf::read(value)?;
        // Whoever writes one of these words does not mean a file of that name.
        let words = ["stdout", "syslog", "journal", "journald", "off", "none", "null"];
        match value.as_str() {
            Some("stderr") => Ok(Self::Stderr),
            Some(word) if words.contains(&word.to_ascii_lowercase().as_str()) => {
                Err(Problem::new(format!("records do not go to \"{word}\"")).help(RECORDS_TO))
            }
            Some(folder) if folder.ends_with('/') => {
                Err(Problem::new(format!("\"{folder}\" is a folder")).help("name the file in it"))
            }
            Some(_) | None => Ok(Self::File(path)),
        }
    }
}

/// Where the control socket is: `"auto"`, `"off"`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSocketPath(pub(crate) ControlSocket);

impl TomlValue for ControlSocketPath {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("auto") => return Ok(Self(ControlSocket::Auto)),
            Some("off") => return Ok(Self(ControlSocket::Off)),
            Some(_) | None => {}
        }
        if value.as_bool() == Some(false) || is_no_limit(value) {
            return Err(unexpected("a path", value).help("write \"off\" if there is to be none"));
        }
        PathBuf::read(value).map(ControlSocket::At).map(Self)
    }
}

const RECORDS_TO: &str =
    "write \"stderr\", which systemd keeps in its journal, or the path of a file";
