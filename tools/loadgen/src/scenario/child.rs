//! A second process of the load generator at the lowest priority, so that its work on the shared core
//! does not delay the messages that this process measures.

use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::cli::Common;
use crate::error::Error;

/// Runs a scenario with the same target to its end, and returns its report.
pub async fn run(scenario: &str, common: &Common, options: &[String]) -> Result<Value, Error> {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(std::env::current_exe()?).arg(scenario).args(options);
    command.arg("--connect").arg(common.connect.to_string()).arg("--name").arg(&common.name);
    command.arg("--sources").arg(common.sources.to_string());
    match &common.ca {
        Some(ca) => command.arg("--ca").arg(ca),
        None => command.arg("--plain"),
    };
    command.stdin(Stdio::null());
    // Starting a process would block the tunnels for milliseconds.
    let output = spawn_blocking(move || command.output()).await;
    let output = output.map_err(|error| Error::new(error.to_string()))??;
    let place = || format!("loadgen {scenario}");
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::new(String::from_utf8_lossy(&output.stderr).trim()).context(place()))?;
    match report.get("failed") {
        Some(why) => Err(Error::new(why.to_string()).context(place())),
        None => Ok(report),
    }
}
