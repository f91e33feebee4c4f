//! A second process of the load generator at the lowest priority, so that its work on the shared core
//! does not delay the messages that this process measures.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::cli::Common;
use crate::error::Error;

/// Runs a scenario with the same target, and returns its report, which comes before the process ends and
/// closes its connections.
pub async fn run(scenario: &str, common: &Common, options: &[String]) -> Result<Value, Error> {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(std::env::current_exe()?).arg(scenario).args(options);
    command.arg("--connect").arg(common.connect.to_string()).arg("--name").arg(&common.name);
    if let Some(sources) = common.sources {
        command.arg("--sources").arg(sources.to_string());
    }
    match &common.ca {
        Some(ca) => command.arg("--ca").arg(ca),
        None => command.arg("--plain"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Starting a process would block the tunnels for milliseconds.
    let reported = spawn_blocking(move || report_line(&mut command)).await;
    let line = reported.map_err(|error| Error::new(error.to_string()))??;
    let place = || format!("loadgen {scenario}");
    let report: Value =
        serde_json::from_str(&line).map_err(|_| Error::new(line.trim()).context(place()))?;
    match report.get("failed") {
        Some(why) => Err(Error::new(why.to_string()).context(place())),
        None => Ok(report),
    }
}

/// Starts the process and returns the line of its report, or what it says on standard error.
fn report_line(command: &mut Command) -> io::Result<String> {
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut line = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty()
        && let Some(mut stderr) = stderr
    {
        stderr.read_to_string(&mut line)?;
    }
    // The process ends after its report; the load generator ends soon after.
    std::thread::spawn(move || child.wait());
    Ok(line)
}
