//! What the keys of `top` do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::TopCommand;
use super::state::{SortColumn, TopAction, TopMode, TopState};

/// What help shows: keys, and what they do.
pub const HELP: [(&str, &str); 11] = [
    ("up, down, page up, page down, home, end", "select a tunnel"),
    ("left, right", "sort by the column beside"),
    ("n c r b a", "sort by number, client, route, backend, age"),
    ("u d m t l", "sort by bytes up/s, down/s, messages/s, bytes in all, round trip"),
    ("o, or the same letter again", "sort the other way round"),
    ("/", "show only tunnels whose client, route or backend has this in it"),
    ("space, p", "stand still; again: go on"),
    ("enter", "all about the selected tunnel"),
    ("k", "close the selected tunnel (asks first)"),
    ("?", "this help"),
    ("q, esc, ctrl-c", "leave, or back to the table"),
];

/// One key.
pub fn press(top: &mut TopState, key: KeyEvent) -> Option<TopAction> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return Some(TopAction::Quit);
    }
    // Another chord is not the letter in it.
    if control || key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match top.mode {
        TopMode::Table => table(top, key.code),
        TopMode::Filter => filter(top, key.code),
        TopMode::Confirm(session) => {
            top.mode = TopMode::Table;
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            if !yes {
                return top.say(format!("tunnel {session} stays open"));
            }
            Some(TopAction::Ask(TopCommand::Kill(session)))
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

#[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing")]
fn table(top: &mut TopState, key: KeyCode) -> Option<TopAction> {
    top.said = None;
    let page = isize::try_from(top.page).unwrap_or(isize::MAX).max(1);
    match key {
        KeyCode::Up => top.step(-1),
        KeyCode::Down => top.step(1),
        KeyCode::PageUp => top.step(-page),
        KeyCode::PageDown => top.step(page),
        KeyCode::Home => top.step(isize::MIN),
        KeyCode::End => top.step(isize::MAX),
        KeyCode::Left => top.sort_beside(false),
        KeyCode::Right => top.sort_beside(true),
        KeyCode::Enter => {
            let session = top.current()?.of.session;
            top.mode = TopMode::Detail(session, None);
            return Some(TopAction::Ask(TopCommand::Detail(session)));
        }
        KeyCode::Esc if !top.filter.is_empty() => {
            top.filter.clear();
            top.arrange();
        }
        KeyCode::Esc | KeyCode::Char('q') => return Some(TopAction::Quit),
        KeyCode::Char('/') => top.mode = TopMode::Filter,
        KeyCode::Char('?') => top.mode = TopMode::Help,
        KeyCode::Char(' ' | 'p') => top.paused = !top.paused,
        KeyCode::Char('k') => top.mode = TopMode::Confirm(top.current()?.of.session),
        KeyCode::Char('o') => top.sort_by(top.sort),
        KeyCode::Char(letter) => {
            let column = SortColumn::ALL.into_iter().find(|column| column.heading().1 == letter)?;
            top.sort_by(column);
        }
        _ => {}
    }
    None
}

#[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing")]
fn filter(top: &mut TopState, key: KeyCode) -> Option<TopAction> {
    match key {
        KeyCode::Enter => top.mode = TopMode::Table,
        KeyCode::Esc => {
            top.filter.clear();
            top.mode = TopMode::Table;
        }
        KeyCode::Backspace => drop(top.filter.pop()),
        KeyCode::Char(letter) if top.filter.chars().count() < FILTER_MAX => top.filter.push(letter),
        _ => {}
    }
    top.arrange();
    None
}

const FILTER_MAX: usize = 60;
