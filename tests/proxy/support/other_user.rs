//! Runs the program as another user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::TIDEGATE;

/// Runs a copy of the program as the user `nobody`, which requires root. The copy is in `folder`,
/// since other users may not be able to read the build folder.
pub fn other_user(folder: &Path) -> Command {
    let copy = folder.join("tidegate");
    fs::copy(TIDEGATE, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

const NOBODY: u32 = 65534;
