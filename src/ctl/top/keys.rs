//! The keys of `top`.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::TopCommand;
use super::state::{SortColumn, TopAction, TopMode, TopState};

/// The keys and their functions, for the help box.
pub const HELP: [(&str, &str); 11] = [
    ("up, down, page up, page down, home, end", "select a tunnel"),
    ("left, right", "sort by the previous or next column"),
    ("n c r b a", "sort by number, client, route, backend, age"),
    ("u d m t l", "sort by bytes up/s, down/s, messages/s, total bytes, round-trip time"),
    ("o, or the same letter again", "reverse the order"),
    ("/", "show only tunnels whose client, route or backend contains a text"),
    ("space, p", "pause or continue"),
    ("enter", "show details of the selected tunnel"),
    ("k", "close the selected tunnel (asks for confirmation)"),
    ("?", "this help"),
    ("q, esc, ctrl-c", "quit, or return to the table"),
];

/// Handles one key press.
pub fn press(top: &mut TopState, key: KeyEvent) -> Option<TopAction> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return Some(TopAction::Quit);
    }
    // Other chords are not the plain letter.
    if control || key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match top.mode {
        TopMode::Table => table_key(top, key.code),
        TopMode::Filter => filter_key(top, key.code),
        TopMode::Confirm(session) => {
            top.mode = TopMode::Table;
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            if !yes {
                return top.set_message(format!("tunnel {session} stays open"));
            }
            Some(TopAction::Send(TopCommand::Kill(session)))
        }
        TopMode::Detail(session, _) => {
            let kill = key.code == KeyCode::Char('k');
            top.mode = if kill { TopMode::Confirm(session) } else { TopMode::Table };
            None
        }
        TopMode::Help => {
            top.mode = TopMode::Table;
            None
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other keys are ignored")]
fn table_key(top: &mut TopState, key: KeyCode) -> Option<TopAction> {
    top.message = None;
    let page = isize::try_from(top.page).unwrap_or(isize::MAX).max(1);
    match key {
        KeyCode::Up => top.move_selection(-1),
        KeyCode::Down => top.move_selection(1),
        KeyCode::PageUp => top.move_selection(-page),
        KeyCode::PageDown => top.move_selection(page),
        KeyCode::Home => top.move_selection(isize::MIN),
        KeyCode::End => top.move_selection(isize::MAX),
        KeyCode::Left => top.sort_by_adjacent(false),
        KeyCode::Right => top.sort_by_adjacent(true),
        KeyCode::Enter => {
            let session = top.selected_row()?.info.session;
            top.mode = TopMode::Detail(session, None);
            return Some(TopAction::Send(TopCommand::Detail(session)));
        }
        KeyCode::Esc if !top.filter.is_empty() => {
            top.filter.clear();
            top.update_order();
        }
        KeyCode::Esc | KeyCode::Char('q') => return Some(TopAction::Quit),
        KeyCode::Char('/') => top.mode = TopMode::Filter,
        KeyCode::Char('?') => top.mode = TopMode::Help,
        KeyCode::Char(' ' | 'p') => top.paused = !top.paused,
        KeyCode::Char('k') => top.mode = TopMode::Confirm(top.selected_row()?.info.session),
        KeyCode::Char('o') => top.sort_by(top.sort),
        KeyCode::Char(letter) => {
            let column = SortColumn::ALL.into_iter().find(|column| column.heading().1 == letter)?;
            top.sort_by(column);
        }
        _ => {}
    }
    None
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other keys are ignored")]
fn filter_key(top: &mut TopState, key: KeyCode) -> Option<TopAction> {
    match key {
        KeyCode::Enter => top.mode = TopMode::Table,
        KeyCode::Esc => {
            top.filter.clear();
            top.mode = TopMode::Table;
        }
        KeyCode::Backspace => drop(top.filter.pop()),
        KeyCode::Char(letter) if top.filter.chars().count() < FILTER_CHARS_MAX => {
            top.filter.push(letter)
        }
        _ => {}
    }
    top.update_order();
    None
}

const FILTER_CHARS_MAX: usize = 60;
