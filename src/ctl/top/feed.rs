//! What `top` hears: the process, keys and signals, each from a thread of its own that waits.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::ctl::speech::{Ending, Speech};
use crate::ctl::status::Headline;
use crate::protocol::answer::{Killed, SessionDetail, Sessions};
use crate::protocol::{Request, Selection, Words};

/// Something to react to.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The process was looked at.
    Seen(Look),
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
pub struct Look {
    /// As a whole.
    pub headline: Headline,
    /// Its tunnels.
    pub sessions: Sessions,
}

/// Something to ask for beside looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All about a tunnel.
    Detail(u64),
    /// Close it.
    Kill(u64),
}

/// Starts the three threads. They end with the process: each waits for something that may never
/// come.
pub fn start(speech: Speech, events: SyncSender<Event>, orders: Receiver<Order>) -> io::Result<()> {
    let (keys, signals) = (events.clone(), events.clone());
    thread::Builder::new().name("keys".into()).spawn(move || hear_keys(&keys))?;
    thread::Builder::new().name("signals".into()).spawn(move || hear_signals(&signals))?;
    thread::Builder::new().name("asking".into()).spawn(move || ask(&speech, &events, &orders))?;
    Ok(())
}

/// Looks once.
pub fn look(speech: &Speech) -> Result<Look, Ending> {
    let status: Value = speech.ask(&Request::Status)?;
    let sessions = speech.ask(&Request::Sessions { of: Selection::default() })?;
    Ok(Look { headline: Headline::of(&status), sessions })
}

/// Looks once a second, and does what it is told in between.
fn ask(speech: &Speech, events: &SyncSender<Event>, orders: &Receiver<Order>) {
    loop {
        let event = match orders.recv_timeout(BETWEEN) {
            Ok(Order::Detail(session)) => {
                let detail = speech.ask(&Request::Session { session });
                Event::Detail(session, detail.map(Box::new).map_err(|ending| ending.to_string()))
            }
            Ok(Order::Kill(session)) => Event::Killed(kill(speech, session)),
            Err(RecvTimeoutError::Timeout) => match look(speech) {
                Ok(look) => Event::Seen(look),
                Err(ending) => Event::Gone(ending.to_string()),
            },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn kill(speech: &Speech, session: u64) -> String {
    let of = Selection { sessions: vec![session], ..Selection::default() };
    let request = Request::Kill { of, all: false, words: Words::default() };
    match speech.ask(&request) {
        Ok(Killed { sessions: 0 }) => format!("tunnel {session} was not open any more"),
        Ok(_) => format!("tunnel {session} was told to close"),
        Err(why) => format!("tunnel {session} was not closed: {why}"),
    }
}

fn hear_keys(events: &SyncSender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(
                event::Event::Key(_)
                | event::Event::FocusGained
                | event::Event::FocusLost
                | event::Event::Mouse(_)
                | event::Event::Paste(_),
            ) => continue,
            // The terminal is gone.
            Err(_) => Event::Stop,
        };
        let last = matches!(event, Event::Stop);
        if events.send(event).is_err() || last {
            return;
        }
    }
}

/// What would end the process at once ends it with the terminal restored.
fn hear_signals(events: &SyncSender<Event>) {
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
    let _ = events.send(Event::Stop);
}

/// Two looks.
const BETWEEN: Duration = Duration::from_secs(1);
