//! `ctl top`: a live table of the tunnels in the terminal. The main thread keeps the state and
//! draws; the threads of [`feed`] wait for the proxy, for keys and for signals.

pub(crate) mod draw;
pub(crate) mod feed;
pub(crate) mod keys;
pub(crate) mod state;

use std::io::{self, IsTerminal};
use std::sync::mpsc::sync_channel;

use self::feed::FeedEvent;
use self::state::{TopAction, TopState};
use super::output::{CommandFailure, Output};

/// Shows the table until the user quits.
///
/// # Errors
///
/// [`CommandFailure::Usage`] with `--json` or without a terminal, a failure of the first sample, or
/// of the terminal.
pub fn top(output: &Output) -> Result<(), CommandFailure> {
    if output.json {
        let message = "top has no --json; use `tidegate ctl sessions --json`";
        return Err(CommandFailure::Usage(message.to_owned()));
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let message = "top needs a terminal; use `tidegate ctl sessions --sort rate`";
        return Err(CommandFailure::Usage(message.to_owned()));
    }
    // Sampled first, so that an unreachable proxy does not clear the terminal.
    let first = feed::sample(output)?;
    let mut top = TopState::new(output.colour);
    top.add_sample(first);
    let terminal = ratatui::try_init()?;
    let _restored = TerminalGuard;
    run(output, top, terminal)
}

fn run(
    output: &Output,
    mut top: TopState,
    mut terminal: ratatui::DefaultTerminal,
) -> Result<(), CommandFailure> {
    let (event_sender, events) = sync_channel(EVENTS_MAX);
    let (commands, command_receiver) = sync_channel(COMMANDS_MAX);
    feed::start(output.clone(), event_sender, command_receiver)?;
    loop {
        terminal.draw(|frame| draw::draw(frame, &mut top))?;
        let Ok(event) = events.recv() else { return Ok(()) };
        // Handles all queued events before the next draw.
        for event in std::iter::once(event).chain(events.try_iter().take(EVENTS_MAX)) {
            let action = match event {
                FeedEvent::Key(key) => keys::press(&mut top, key),
                FeedEvent::Sample(sample) => top.add_sample(sample),
                FeedEvent::Detail(session, detail) => top.set_detail(session, detail),
                FeedEvent::KillFinished(message) => top.set_message(message),
                FeedEvent::SampleFailed(error) => top.set_error(error),
                FeedEvent::Resized => None,
                FeedEvent::Stop => return Ok(()),
            };
            match action {
                // Dropped if the queue is full; the user can press the key again.
                Some(TopAction::Send(command)) => drop(commands.try_send(command)),
                Some(TopAction::Quit) => return Ok(()),
                None => {}
            }
        }
    }
}

/// Restores the terminal when dropped.
struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

const EVENTS_MAX: usize = 64;
const COMMANDS_MAX: usize = 8;
