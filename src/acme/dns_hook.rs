//! The program that sets and removes the TXT records of dns-01 (RFC 8555 8.4), called as `HOOK set NAME VALUE` and
//! `HOOK clean NAME VALUE`.

use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::select;
use tokio::time::timeout;

use super::failure::AcmeFailure;
use super::protocol::one_line;

/// Runs the hook and waits until it has ended.
///
/// # Errors
/// It cannot be started, fails, or does not end in time, in which case it is killed. The error has its last output.
pub async fn run(hook: &Path, action: &str, name: &str, value: &str) -> Result<(), AcmeFailure> {
    let shown = format!("acme.dns_hook: {} {action} {name}", hook.display());
    let failure = |problem: String| AcmeFailure::certificate(format!("{shown}: {problem}"));
    // A relative path starts at the configuration file; without this, a bare name would be looked for in $PATH.
    let program = std::path::absolute(hook).map_err(|error| failure(error.to_string()))?;
    let mut child = Command::new(program)
        .args([action, name, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failure(format!("cannot start it: {error}")))?;
    let stderr = child.stderr.take();
    let mut output = Vec::new();
    let running = async {
        let mut reading = pin!(read(stderr, &mut output));
        select! {
            () = &mut reading => child.wait().await,
            status = child.wait() => {
                // A process that the hook has left may keep its output open.
                let _ = timeout(OUTPUT_TIMEOUT, reading).await;
                status
            }
        }
    };
    let status = timeout(HOOK_TIMEOUT, running)
        .await
        .map_err(|_| failure(format!("it did not end within {} s", HOOK_TIMEOUT.as_secs())))?;
    let status = status.map_err(|error| failure(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output);
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(failure(format!("{status}: {}", one_line(line))))
}

/// Reads everything, so that the hook is never blocked by what it writes, and keeps the first part.
async fn read(stderr: Option<ChildStderr>, output: &mut Vec<u8>) {
    let Some(stderr) = stderr else { return };
    let mut kept = stderr.take(OUTPUT_BYTES_MAX);
    let _ = kept.read_to_end(output).await;
    let _ = tokio::io::copy(&mut kept.into_inner(), &mut tokio::io::sink()).await;
}

/// A hook may wait until the record can be seen everywhere.
const HOOK_TIMEOUT: Duration = Duration::from_secs(300);
/// How long its last output is read after its end.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);
const OUTPUT_BYTES_MAX: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn process_that_the_hook_leaves_is_not_waited_for() {
        let name = format!("tidegate-hook-pid-{}", std::process::id());
        let pid_file = std::env::temp_dir().join(name);
        // Called as `sh -c SCRIPT VALUE`. The process keeps the output open for longer than the hook may run.
        let script = "sleep 600 & echo $! >\"$0\"; echo 'no such zone' >&2; exit 3";
        let value = pid_file.to_str().unwrap();
        let ended = run(Path::new("/bin/sh"), "-c", script, value).await;
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let killed = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
        std::fs::remove_file(&pid_file).unwrap();
        assert!(killed.success(), "the process has ended");
        let text = ended.unwrap_err().text;
        assert!(text.ends_with("exit status: 3: no such zone"), "{text}");
    }

    #[tokio::test]
    async fn hook_that_writes_much_is_not_blocked() {
        let script = "head -c 1000000 /dev/zero >&2";
        run(Path::new("/bin/sh"), "-c", script, "").await.unwrap();
    }
}
