//! The program that sets and removes the TXT records of dns-01 (RFC 8555 8.4), called as `HOOK set NAME VALUE` and
//! `HOOK clean NAME VALUE`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
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
    let running = async {
        let mut output = Vec::new();
        if let Some(stderr) = stderr {
            // The hook is never blocked by what it writes: the rest is read and dropped.
            let mut kept = stderr.take(OUTPUT_BYTES_MAX);
            let _ = kept.read_to_end(&mut output).await;
            let _ = tokio::io::copy(&mut kept.into_inner(), &mut tokio::io::sink()).await;
        }
        (child.wait().await, output)
    };
    let (status, output) = timeout(HOOK_TIMEOUT, running)
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

/// A hook may wait until the record can be seen everywhere.
const HOOK_TIMEOUT: Duration = Duration::from_secs(300);
const OUTPUT_BYTES_MAX: u64 = 16 << 10;
