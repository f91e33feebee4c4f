//! What the process is told to do from outside.

use std::io;

use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: let a new process take over, and leave.
    HandOver,
    /// SIGTERM or SIGINT: leave; the second time at once.
    Stop,
}

/// Turns the process's signals into values. Signals that come faster than they are obeyed fall
/// together, as the kernel's own do.
pub fn listen() -> io::Result<(mpsc::Sender<Signal>, mpsc::Receiver<Signal>)> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Left alone they would end the process; once heard they never do again, listener or not.
    drop(signal(SignalKind::user_defined1())?);
    let mut successor = signal(SignalKind::user_defined2())?;
    let (sender, receiver) = mpsc::channel(4);
    let heard = sender.clone();
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process")]
    tokio::spawn(async move {
        loop {
            let signal = select! {
                _ = hangup.recv() => Signal::Reload,
                _ = successor.recv() => Signal::HandOver,
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
            };
            match signal {
                // One in the queue does for all.
                Signal::Reload => drop(sender.try_send(signal)),
                Signal::HandOver | Signal::Stop => {
                    if sender.send(signal).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok((heard, receiver))
}
