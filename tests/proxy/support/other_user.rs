//! Runs the program as another user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::TIDEGATE;

/// Runs a copy of the program as an unprivileged user, which requires root. The copy is in `folder`,
/// since other users may not be able to read the build folder.
pub fn other_user(folder: &Path) -> Command {
    let copy = folder.join("tidegate");
    // Not by `fs::copy`: a process that another test starts meanwhile would inherit the open file until
    // it executes its program, and a file that is open for writing cannot be executed.
    assert!(Command::new("cp").arg(TIDEGATE).arg(&copy).status().unwrap().success());
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(OVERFLOW_UID).gid(OVERFLOW_UID).current_dir("/");
    command
}

/// The user id without an owner (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65534;
