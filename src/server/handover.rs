//! SIGUSR2: another process of this program, perhaps of a newer one, takes over the listening
//! sockets, and this one drains. Nothing changes here before the successor has judged its
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
use crate::listener::inherited::{PREDECESSOR_VARIABLE, PassedSocket};
use crate::sys::systemd;

/// What this process was started with, as it was installed then.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked at the beginning: once a package has replaced the file, the kernel's word for it
    /// is that of a deleted one.
    pub fn current() -> Option<Self> {
        let path = std::env::current_exe().ok()?;
        Some(Self { path, arguments: std::env::args_os().skip(1).collect() })
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverOutcome {
    /// The successor serves; this process is to drain.
    Yes,
    /// Nothing has changed.
    No,
    /// A signal to stop came first; nothing has changed.
    Stop,
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
enum HandoverError {
    #[error("it cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("it ended before it was ready ({0}); its own lines say why")]
    Ended(String),
    #[error("it was not ready within {} s", .0.as_secs())]
    Silent(Duration),
}

/// Starts a successor and gives it the sockets. A successor that fails is ended and told of.
pub async fn hand_over(
    program: Option<&Program>,
    doors: &Listeners,
    signals: &mut mpsc::Receiver<Signal>,
) -> HandoverOutcome {
    let Some(program) = program else {
        warn!("no hand-over: there is no file of a program, or of its configuration");
        return HandoverOutcome::No;
    };
    info!(
        program = %program.path.display(),
        "handing over to a new process; it begins as the file says, without what was ordered since"
    );
    let (passage, heirs, child) = match begin(program, doors) {
        Ok((passage, heirs, child)) => (Arc::new(passage), heirs, child),
        Err(error) => return refused(&HandoverError::Start(error)),
    };
    let outcome = select! {
        outcome = ready(passage.clone(), heirs) => outcome,
        () = stop(signals) => {
            end(child, Duration::ZERO).await;
            return HandoverOutcome::Stop;
        }
    };
    let followed = match outcome {
        Ok(()) => let_go(passage, &child).await,
        Err(error) => Err(error),
    };
    let failed = match followed {
        Ok(()) => {
            info!(successor = child.id(), "handed over; this process leaves");
            return HandoverOutcome::Yes;
        }
        Err(error) => error,
    };
    if matches!(failed.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        end(child, Duration::ZERO).await;
        return refused(&HandoverError::Silent(READY_MAX));
    }
    // It let go of us, and may have its last words to write.
    let status = end(child, LAST_WORDS).await;
    let how = status.map_or_else(|| failed.to_string(), |status| status.to_string());
    refused(&HandoverError::Ended(how))
}

/// The successor is the one that counts, hears so, and says that it did: from then on it serves. One
/// that does not say it is ended, so that there is always one that serves.
async fn let_go(passage: Arc<HandoverChannel>, child: &Child) -> io::Result<()> {
    systemd::set_main_pid(child.id());
    let told = match passage.send(GO, None) {
        Ok(()) => hear(passage, SERVING, GO_MAX).await,
        Err(error) => Err(error),
    };
    if told.is_err() {
        systemd::set_main_pid(std::process::id());
    }
    told
}

fn refused(why: &HandoverError) -> HandoverOutcome {
    error!(%why, "no hand-over; this process serves on");
    HandoverOutcome::No
}

fn begin(
    program: &Program,
    doors: &Listeners,
) -> io::Result<(HandoverChannel, Vec<PassedSocket>, Child)> {
    let (ours, theirs) = HandoverChannel::pair()?;
    let heirs = doors.heirs()?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .stdin(Stdio::from(theirs))
        .env(PREDECESSOR_VARIABLE, "stdin")
        // Meant for this process alone.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("WATCHDOG_PID")
        .spawn()?;
    Ok((ours, heirs, child))
}

/// Passes the sockets on, as fast as the successor takes them, and waits for its word.
async fn ready(passage: Arc<HandoverChannel>, heirs: Vec<PassedSocket>) -> io::Result<()> {
    let passing = async {
        for (word, socket) in heirs {
            loop {
                match passage.send(&word, socket.as_ref().map(OwnedFd::as_fd)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(LOOK_EVERY).await;
                    }
                    told => break told?,
                }
            }
        }
        hear(passage, READY, READY_MAX).await
    };
    timeout(READY_MAX, passing).await?
}

/// Waits for a word beside the workers.
async fn hear(
    passage: Arc<HandoverChannel>,
    word: &'static str,
    patience: Duration,
) -> io::Result<()> {
    let hearing = tokio::task::spawn_blocking(move || passage.expect(word, patience));
    hearing.await.map_err(io::Error::other)?
}

/// Ready when this process is told to stop; what else it is told has to wait, and is told again.
async fn stop(signals: &mut mpsc::Receiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Stop) | None => return,
            Some(Signal::Reload) => warn!("reload refused: a hand-over is under way"),
            Some(Signal::HandOver) => warn!("a hand-over is under way already"),
        }
    }
}

/// Ends a successor that failed, unless it ends by itself meanwhile.
async fn end(mut child: Child, grace: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + grace;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        sleep(LOOK_EVERY).await;
    }
    let _ = child.kill();
    tokio::task::spawn_blocking(move || child.wait().ok()).await.ok().flatten()
}

/// A successor has its configuration to judge, its files to read and its sockets to open.
const READY_MAX: Duration = Duration::from_secs(30);
/// For a successor that gave up, to say why and end.
const LAST_WORDS: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    async fn tried(program: &Program) -> HandoverOutcome {
        let (_sender, mut signals) = mpsc::channel(1);
        hand_over(Some(program), &Listeners::default(), &mut signals).await
    }

    #[tokio::test]
    async fn a_successor_that_fails_changes_nothing() {
        let missing = Program { path: "/nowhere/tidegate".into(), arguments: Vec::new() };
        for program in [missing, shell("exit 0"), shell("exit 78"), shell("kill -9 $$")] {
            assert_eq!(tried(&program).await, HandoverOutcome::No, "{program:?}");
        }
    }

    #[tokio::test]
    async fn a_stop_comes_first() {
        let (sender, mut signals) = mpsc::channel(4);
        for signal in [Signal::Reload, Signal::HandOver, Signal::Stop] {
            sender.send(signal).await.unwrap();
        }
        let sleeper = shell("exec sleep 60");
        let outcome = hand_over(Some(&sleeper), &Listeners::default(), &mut signals).await;
        assert_eq!(outcome, HandoverOutcome::Stop);
    }

    #[tokio::test]
    async fn silence_is_not_borne_for_ever() {
        let (ours, _theirs) = HandoverChannel::pair().unwrap();
        let heard = hear(Arc::new(ours), READY, Duration::from_millis(50)).await;
        assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
