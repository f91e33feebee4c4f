//! `ctl top`: a live table of the tunnels in the terminal. One thread asks, one hears keys, one
//! hears signals; this one decides and draws.

pub(crate) mod draw;
pub(crate) mod feed;
pub(crate) mod keys;
pub(crate) mod state;

use std::io::{self, IsTerminal};
use std::sync::mpsc::sync_channel;

use self::feed::FeedEvent;
use self::state::{TopAction, TopState};
use super::output::{CommandFailure, Output};

/// Takes the terminal, until whoever sits there has seen enough.
pub fn top(output: &Output) -> Result<(), CommandFailure> {
    if output.json {
        let instead = "top has no --json; `tidegate ctl sessions --json` has";
        return Err(CommandFailure::Usage(instead.to_owned()));
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let instead = "top needs a terminal; `tidegate ctl sessions --sort rate` does not";
        return Err(CommandFailure::Usage(instead.to_owned()));
    }
    // If there is nobody to ask, the terminal is left alone.
    let first = feed::look(output)?;
    let mut top = TopState::new(output.colour);
    top.seen(first);
    let terminal = ratatui::try_init()?;
    let _restored = TerminalGuard;
    watch(output, top, terminal)
}

fn watch(
    output: &Output,
    mut top: TopState,
    mut terminal: ratatui::DefaultTerminal,
) -> Result<(), CommandFailure> {
    let (events, heard) = sync_channel(EVENTS_MAX);
    let (deeds, ordered) = sync_channel(DEEDS_MAX);
    feed::start(output.clone(), events, ordered)?;
    loop {
        terminal.draw(|frame| draw::draw(frame, &mut top))?;
        let Ok(event) = heard.recv() else { return Ok(()) };
        // Whatever else has come is seen by the same drawing.
        for event in std::iter::once(event).chain(heard.try_iter().take(EVENTS_MAX)) {
            let deed = match event {
                FeedEvent::Key(key) => keys::press(&mut top, key),
                FeedEvent::Seen(look) => top.seen(look),
                FeedEvent::Detail(session, detail) => top.told(session, detail),
                FeedEvent::Killed(said) => top.say(said),
                FeedEvent::Gone(why) => top.gone(why),
                FeedEvent::Resized => None,
                FeedEvent::Stop => return Ok(()),
            };
            match deed {
                // If the asking thread is that far behind, another press will do it.
                Some(TopAction::Ask(order)) => drop(deeds.try_send(order)),
                Some(TopAction::Quit) => return Ok(()),
                None => {}
            }
        }
    }
}

/// Gives the terminal back as it was.
struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

const EVENTS_MAX: usize = 64;
const DEEDS_MAX: usize = 8;
