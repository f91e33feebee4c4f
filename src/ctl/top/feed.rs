//! What `top` hears: the process, keys and signals, each from a thread of its own that waits.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::ctl::output::{CommandFailure, Output};
use crate::ctl::status::StatusSummary;
use crate::protocol::response::{KillResult, SessionDetail, SessionList};
use crate::protocol::{CloseRequest, ControlRequest, Selection};

/// Something to react to.
#[derive(Debug)]
pub enum FeedEvent {
    /// A key was pressed.
    Key(KeyEvent),
    /// The process was looked at.
    Seen(TopSample),
    /// What is known of a tunnel, or why nothing is.
    Detail(u64, Result<Box<SessionDetail>, String>),
    /// What became of an order to close.
    Killed(String),
    /// The process does not answer.
    Gone(String),
    /// The terminal has another size.
    Resized,
    /// A signal says so, or nobody is at the terminal any more.
    Stop,
}

/// The process at a moment.
#[derive(Clone, Debug, Default)]
pub struct TopSample {
    /// As a whole.
    pub headline: StatusSummary,
    /// Its tunnels.
    pub sessions: SessionList,
}

/// Something to ask for beside looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopCommand {
    /// All about a tunnel.
    Detail(u64),
    /// Close it.
    Kill(u64),
}

/// Starts the three threads. They end with the process: each waits for something that may never
/// come.
pub fn start(
    output: Output,
    events: SyncSender<FeedEvent>,
    orders: Receiver<TopCommand>,
) -> io::Result<()> {
    let (keys, signals) = (events.clone(), events.clone());
    thread::Builder::new().name("keys".into()).spawn(move || hear_keys(&keys))?;
    thread::Builder::new().name("signals".into()).spawn(move || hear_signals(&signals))?;
    thread::Builder::new().name("asking".into()).spawn(move || ask(&output, &events, &orders))?;
    Ok(())
}

/// Looks once.
pub fn look(output: &Output) -> Result<TopSample, CommandFailure> {
    let status: Value = output.ask(&ControlRequest::Status)?;
    let sessions = output.ask(&ControlRequest::Sessions { selection: Selection::default() })?;
    Ok(TopSample { headline: StatusSummary::of(&status), sessions })
}

/// Looks once a second, and does what it is told in between.
fn ask(output: &Output, events: &SyncSender<FeedEvent>, orders: &Receiver<TopCommand>) {
    loop {
        let event = match orders.recv_timeout(BETWEEN) {
            Ok(TopCommand::Detail(session)) => {
                let detail = output.ask(&ControlRequest::Session { session });
                FeedEvent::Detail(
                    session,
                    detail.map(Box::new).map_err(|ending| ending.to_string()),
                )
            }
            Ok(TopCommand::Kill(session)) => FeedEvent::Killed(kill(output, session)),
            Err(RecvTimeoutError::Timeout) => match look(output) {
                Ok(look) => FeedEvent::Seen(look),
                Err(ending) => FeedEvent::Gone(ending.to_string()),
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
    match output.ask(&request) {
        Ok(KillResult { sessions: 0 }) => format!("tunnel {session} was not open any more"),
        Ok(_) => format!("tunnel {session} was told to close"),
        Err(why) => format!("tunnel {session} was not closed: {why}"),
    }
}

fn hear_keys(events: &SyncSender<FeedEvent>) {
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
            // The terminal is gone.
            Err(_) => FeedEvent::Stop,
        };
        let last = matches!(event, FeedEvent::Stop);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// What would end the process at once ends it with the terminal restored.
fn hear_signals(events: &SyncSender<FeedEvent>) {
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

/// Two looks.
const BETWEEN: Duration = Duration::from_secs(1);
