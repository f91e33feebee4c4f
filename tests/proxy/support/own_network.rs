//! Tests that run in a network of their own: a namespace in which they are root, with all ports free.

use std::process::Command;

use super::TempDir;

/// Whether the caller runs in a network of its own, with a file `/etc/resolv.conf` of its own. Otherwise runs the test
/// with this name again, in such a network, and panics if it fails there.
#[expect(clippy::print_stderr, reason = "reports the skipped test")]
pub fn is_own_network(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--net"]);
        command
    };
    let is_permitted = unshare().args(["ip", "link", "set", "lo", "up"]).status();
    if !is_permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: creating a network namespace is not permitted here");
        return false;
    }
    let folder = TempDir::new();
    folder.write("resolv.conf", "");
    let script = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = unshare();
    command.args(["sh", "-c", script]).arg(folder.path().join("resolv.conf"));
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(MARK, "1").output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{}\n{}", text[0], text[1]);
    assert!(text[0].contains("1 passed"), "{test} is not the name of a test: {}", text[0]);
    false
}

/// Set inside.
const MARK: &str = "TIDEGATE_OWN_NETWORK";
