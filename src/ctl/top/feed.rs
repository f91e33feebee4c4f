//! Produces the events of `top`. Three threads wait for the proxy, for keys and for signals.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::control_protocol::response::{KillResult, SessionDetail, SessionList};
use crate::control_protocol::{CloseRequest, ControlRequest, Selection};
use crate::ctl::output::{CommandFailure, Output};
use crate::ctl::status::StatusSummary;

/// An event that changes the display.
#[derive(Debug)]
pub enum FeedEvent {
    /// A key was pressed.
    Key(KeyEvent),
    /// A new sample arrived.
    Sample(TopSample),
    /// The description of a tunnel, or an error message.
    Detail(u64, Result<Box<SessionDetail>, String>),
    /// The outcome of a kill, for the status line.
    KillFinished(String),
    /// Sampling failed; the error message.
    SampleFailed(String),
    /// The terminal was resized.
    Resized,
    /// A signal arrived or the terminal was closed.
    Stop,
}

/// The state of the proxy at one moment.
#[derive(Clone, Debug, Default)]
pub struct TopSample {
    /// The counts of the whole process.
    pub summary: StatusSummary,
    /// The open tunnels.
    pub sessions: SessionList,
}

/// A request to the proxy, in addition to the periodic samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopCommand {
    /// Describe a tunnel.
    Detail(u64),
    /// Close a tunnel.
    Kill(u64),
}

/// Starts the three threads. They are not joined: each blocks in a call that may never return, and
/// ends with the process.
///
/// # Errors
///
/// The error of the operating system if a thread cannot be started.
pub fn start(
    output: Output,
    events: SyncSender<FeedEvent>,
    commands: Receiver<TopCommand>,
) -> io::Result<()> {
    let (keys, signals) = (events.clone(), events.clone());
    thread::Builder::new().name("keys".into()).spawn(move || read_keys(&keys))?;
    thread::Builder::new().name("signals".into()).spawn(move || wait_for_signals(&signals))?;
    thread::Builder::new()
        .name("requests".into())
        .spawn(move || send_requests(&output, &events, &commands))?;
    Ok(())
}

/// Requests the status and the open tunnels.
///
/// # Errors
///
/// As for [`Output::request`].
pub fn sample(output: &Output) -> Result<TopSample, CommandFailure> {
    let status: Value = output.request(&ControlRequest::Status)?;
    let sessions = output.request(&ControlRequest::Sessions { selection: Selection::default() })?;
    Ok(TopSample { summary: StatusSummary::from_status(&status), sessions })
}

/// Takes a sample every second and executes commands in between.
fn send_requests(output: &Output, events: &SyncSender<FeedEvent>, commands: &Receiver<TopCommand>) {
    loop {
        let event = match commands.recv_timeout(SAMPLE_INTERVAL) {
            Ok(TopCommand::Detail(session)) => {
                let detail = output.request(&ControlRequest::Session { session });
                FeedEvent::Detail(
                    session,
                    detail.map(Box::new).map_err(|failure| failure.to_string()),
                )
            }
            Ok(TopCommand::Kill(session)) => FeedEvent::KillFinished(kill(output, session)),
            Err(RecvTimeoutError::Timeout) => match sample(output) {
                Ok(sample) => FeedEvent::Sample(sample),
                Err(failure) => FeedEvent::SampleFailed(failure.to_string()),
            },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn kill(output: &Output, session: u64) -> String {
    let selection = Selection { sessions: vec![session], ..Selection::default() };
    let request = ControlRequest::Kill { selection, all: false, close: CloseRequest::default() };
    match output.request(&request) {
        Ok(KillResult { sessions: 0 }) => format!("tunnel {session} was already closed"),
        Ok(_) => format!("closing tunnel {session}"),
        Err(failure) => format!("tunnel {session} was not closed: {failure}"),
    }
}

fn read_keys(events: &SyncSender<FeedEvent>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => FeedEvent::Key(key),
            Ok(event::Event::Resize(..)) => FeedEvent::Resized,
            Ok(
                event::Event::Key(_)
                | event::Event::FocusGained
                | event::Event::FocusLost
                | event::Event::Mouse(_)
                | event::Event::Paste(_),
            ) => continue,
            // The terminal was closed.
            Err(_) => FeedEvent::Stop,
        };
        let last = matches!(event, FeedEvent::Stop);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// Turns terminating signals into an event, so that the terminal is restored before the process
/// exits.
fn wait_for_signals(events: &SyncSender<FeedEvent>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
        return;
    };
    runtime.block_on(async {
        let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
        let [Ok(mut term), Ok(mut hangup), Ok(mut interrupt)] = kinds.map(signal) else { return };
        tokio::select! {
            _ = term.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let _ = events.send(FeedEvent::Stop);
}

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
