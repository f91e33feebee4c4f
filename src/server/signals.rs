//! Process signals.

use std::io;

use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A request by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR2: hand over to a new process and drain.
    HandOver,
    /// SIGTERM or SIGINT: drain and exit; the second one aborts open tunnels.
    Stop,
}

/// Starts to receive signals. Reloads that arrive faster than they are handled are merged, as
/// pending signals are in the kernel. The returned sender injects signals without the kernel.
///
/// # Errors
/// A signal handler cannot be installed.
pub fn listen() -> io::Result<(mpsc::Sender<Signal>, mpsc::Receiver<Signal>)> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The default action of SIGUSR1 would end the process. The handler stays after the drop.
    drop(signal(SignalKind::user_defined1())?);
    let mut successor = signal(SignalKind::user_defined2())?;
    let (sender, receiver) = mpsc::channel(4);
    let injected = sender.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process")]
    tokio::spawn(async move {
        loop {
            let signal = select! {
                _ = hangup.recv() => Signal::Reload,
                _ = successor.recv() => Signal::HandOver,
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
            };
            match signal {
                // One queued reload is enough.
                Signal::Reload => drop(sender.try_send(signal)),
                Signal::HandOver | Signal::Stop => {
                    if sender.send(signal).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok((injected, receiver))
}
