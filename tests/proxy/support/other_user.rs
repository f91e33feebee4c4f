//! The program in the hands of somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::TIDEGATE;

/// The program, run by a user who is nobody here; takes root. A copy in this folder, as the built one
/// may lie where others see nothing.
pub fn other_user(folder: &Path) -> Command {
    let copy = folder.join("tidegate");
    fs::copy(TIDEGATE, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

const NOBODY: u32 = 65534;
