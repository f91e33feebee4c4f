//! Where the control socket is if neither the configuration nor the command line says so.

use std::env;
use std::path::PathBuf;

/// Name of the socket in its folder.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The folder without `$RUNTIME_DIRECTORY`: that of the shipped unit.
pub const RUNTIME_FOLDER: &str = "/run/tidegate";

/// The first folder in `$RUNTIME_DIRECTORY`, in which systemd separates several by colons; `None` unless it is
/// an absolute path.
pub fn runtime_directory() -> Option<PathBuf> {
    let directories = env::var_os("RUNTIME_DIRECTORY")?;
    env::split_paths(&directories).next().filter(|first| first.is_absolute())
}
