//! Handover (SIGUSR2): a new process, possibly of a newer version, takes over the listening
//! sockets, and this one drains. Nothing changes here before the successor has validated its
//! configuration and opened all it needs.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::listeners::Listeners;
use super::signals::Signal;
use super::successor::{GO, GO_MAX, READY, SERVING};
use crate::listener::handover_channel::HandoverChannel;
use crate::listener::inherited::{HandoverMessage, PREDECESSOR_VARIABLE};
use crate::sys::systemd;

/// The program file and arguments of this process.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Reads them from the kernel. Must be called at startup: once a package has replaced the file,
    /// the kernel reports the path of the deleted one.
    pub fn current() -> Option<Self> {
        let path = std::env::current_exe().ok()?;
        Some(Self { path, arguments: std::env::args_os().skip(1).collect() })
    }
}

/// The result of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverOutcome {
    /// The successor serves; this process has to drain.
    Complete,
    /// The successor failed; nothing has changed.
    Failed,
    /// A signal to stop arrived first; nothing has changed.
    Stopped,
}

/// Why this process can never hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoverUnavailable {
    /// The settings are built into the program, which a successor could not load.
    #[error("this process runs without a configuration file; start it with one, or restart it")]
    NoConfigFile,
    /// The kernel did not report the path of the program.
    #[error("the path of the program is unknown; mount /proc, or restart tidegate")]
    UnknownProgram,
}

/// Why a handover failed.
#[derive(Debug, thiserror::Error)]
enum HandoverError {
    #[error("the new process cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("the new process failed ({0}); its messages above say why")]
    Ended(String),
    #[error("the new process was not ready within {} s", .0.as_secs())]
    NotReady(Duration),
    #[error("the new process was ready but did not start to serve within {} s", .0.as_secs())]
    NotServing(Duration),
}

/// Starts a successor and passes the sockets to it. A successor that fails is killed, and the
/// failure is logged.
pub async fn hand_over(
    program: Result<&Program, HandoverUnavailable>,
    listeners: &Listeners,
    signals: &mut mpsc::Receiver<Signal>,
) -> HandoverOutcome {
    let program = match program {
        Ok(program) => program,
        Err(cause) => {
            warn!("handover not possible: {cause}");
            return HandoverOutcome::Failed;
        }
    };
    info!(
        program = %program.path.display(),
        "handover: starting a new process; drains, weights and the log level set \
         with `tidegate ctl` are not kept"
    );
    let (channel, sockets, child) = match start(program, listeners) {
        Ok((channel, sockets, child)) => (Arc::new(channel), sockets, child),
        Err(error) => return failed(&HandoverError::Start(error)),
    };
    let outcome = select! {
        outcome = pass_sockets(channel.clone(), sockets) => outcome,
        () = stop_requested(signals) => {
            exit_or_kill(child, Duration::ZERO).await;
            return HandoverOutcome::Stopped;
        }
    };
    let late = if outcome.is_ok() {
        HandoverError::NotServing(GO_MAX)
    } else {
        HandoverError::NotReady(READY_MAX)
    };
    let result = match outcome {
        Ok(()) => activate(channel, &child).await,
        Err(error) => Err(error),
    };
    let error = match result {
        Ok(()) => {
            info!(successor = child.id(), "handover complete; this process drains");
            return HandoverOutcome::Complete;
        }
        Err(error) => error,
    };
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        exit_or_kill(child, Duration::ZERO).await;
        return failed(&late);
    }
    // It closed the channel and may still write its error message.
    let status = exit_or_kill(child, EXIT_TIMEOUT).await;
    let cause = status.map_or_else(|| error.to_string(), |status| status.to_string());
    failed(&HandoverError::Ended(cause))
}

/// Makes the successor the main process and lets it serve, and waits for its confirmation. The
/// caller kills a successor that does not confirm, so that exactly one process serves.
async fn activate(channel: Arc<HandoverChannel>, child: &Child) -> io::Result<()> {
    systemd::set_main_pid(child.id());
    let confirmed = match channel.send(GO, None) {
        Ok(()) => expect(channel, SERVING, GO_MAX).await,
        Err(error) => Err(error),
    };
    if confirmed.is_err() {
        systemd::set_main_pid(std::process::id());
    }
    confirmed
}

fn failed(error: &HandoverError) -> HandoverOutcome {
    error!(%error, "handover failed; this process keeps serving");
    HandoverOutcome::Failed
}

fn start(
    program: &Program,
    listeners: &Listeners,
) -> io::Result<(HandoverChannel, Vec<HandoverMessage>, Child)> {
    let (ours, theirs) = HandoverChannel::pair()?;
    let sockets = listeners.for_successor()?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .stdin(Stdio::from(theirs))
        .env(PREDECESSOR_VARIABLE, "stdin")
        // Addressed to this process only.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("WATCHDOG_PID")
        .spawn()?;
    Ok((ours, sockets, child))
}

/// Sends the sockets as fast as the successor receives them, and waits until it is ready.
async fn pass_sockets(
    channel: Arc<HandoverChannel>,
    sockets: Vec<HandoverMessage>,
) -> io::Result<()> {
    let passing = async {
        for (message, socket) in sockets {
            loop {
                match channel.send(&message, socket.as_ref().map(OwnedFd::as_fd)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(POLL_INTERVAL).await;
                    }
                    result => break result?,
                }
            }
        }
        expect(channel, READY, READY_MAX).await
    };
    timeout(READY_MAX, passing).await?
}

/// Waits for a message in a blocking thread.
async fn expect(
    channel: Arc<HandoverChannel>,
    message: &'static str,
    limit: Duration,
) -> io::Result<()> {
    let waiting = tokio::task::spawn_blocking(move || channel.expect(message, limit));
    waiting.await.map_err(io::Error::other)?
}

/// Ready at a signal to stop; other signals are rejected with a log line.
async fn stop_requested(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Stop) | None => return,
            Some(Signal::Reload) => warn!("reload rejected: a handover is in progress"),
            Some(Signal::HandOver) => warn!("handover rejected: a handover is already in progress"),
        }
    }
}

/// Kills a failed successor unless it exits on its own within `grace`.
async fn exit_or_kill(mut child: Child, grace: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        sleep(POLL_INTERVAL).await;
    }
    let _ = child.kill();
    tokio::task::spawn_blocking(move || child.wait().ok()).await.ok().flatten()
}

/// Time limit for a successor to validate its configuration and open its files and sockets.
const READY_MAX: Duration = Duration::from_secs(30);
/// Time for a failed successor to log its error and exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    async fn attempt(program: &Program) -> HandoverOutcome {
        let (_sender, mut signals) = mpsc::channel(1);
        hand_over(Ok(program), &Listeners::default(), &mut signals).await
    }

    #[tokio::test]
    async fn failed_successor_changes_nothing() {
        let missing = Program { path: "/nowhere/tidegate".into(), arguments: Vec::new() };
        for program in [missing, shell("exit 0"), shell("exit 78"), shell("kill -9 $$")] {
            assert_eq!(attempt(&program).await, HandoverOutcome::Failed, "{program:?}");
        }
    }

    #[tokio::test]
    async fn stop_has_priority() {
        let (sender, mut signals) = mpsc::channel(4);
        for signal in [Signal::Reload, Signal::HandOver, Signal::Stop] {
            sender.send(signal).await.unwrap();
        }
        let sleeper = shell("exec sleep 60");
        let outcome = hand_over(Ok(&sleeper), &Listeners::default(), &mut signals).await;
        assert_eq!(outcome, HandoverOutcome::Stopped);
    }

    #[tokio::test]
    async fn waiting_for_a_message_times_out() {
        let (ours, _theirs) = HandoverChannel::pair().unwrap();
        let result = expect(Arc::new(ours), READY, Duration::from_millis(50)).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
