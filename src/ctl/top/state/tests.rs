use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::ctl::top::draw::draw;
use crate::ctl::top::keys::press;

/// A look at so many tunnels; the i-th moves i messages of 100 bytes up each second.
fn look(now: f64, tunnels: u64) -> TopSample {
    let seconds = now as u64;
    let row = |i: u64| SessionRow {
        session: i,
        client: format!("192.0.2.{}", i % 250),
        route: if i.is_multiple_of(2) { "chat" } else { "feed" }.into(),
        backend: format!("10.0.0.{}:9001", i % 3),
        age_ms: seconds * 1000 + (tunnels - i) * 1000,
        up_bytes: i * 100 * seconds,
        up_messages: i * seconds,
        client_rtt_ms: i.is_multiple_of(5).then_some(i as f64),
        ..SessionRow::default()
    };
    let sessions: Vec<SessionRow> = (1..=tunnels).map(row).collect();
    let headline = StatusSummary {
        state: "running".into(),
        started: 1.0,
        now,
        tunnels,
        messages: 500 * seconds,
        ..StatusSummary::default()
    };
    TopSample { headline, sessions: SessionList { now, open: sessions.len(), sessions } }
}

/// After two looks, with so many rows on a page.
fn top(tunnels: u64, page: usize) -> TopState {
    let mut top = TopState::new(false);
    top.page = page;
    top.seen(look(10.0, tunnels));
    top.seen(look(11.0, tunnels));
    top
}

fn keys(top: &mut TopState, keys: &str) -> Option<TopAction> {
    keys.chars().map(|key| tap(top, KeyCode::Char(key))).last().flatten()
}

fn tap(top: &mut TopState, code: KeyCode) -> Option<TopAction> {
    press(top, KeyEvent::new(code, KeyModifiers::NONE))
}

fn shown(top: &mut TopState) -> Vec<u64> {
    let page = top.page;
    top.visible(page).map(|row| row.of.session).collect()
}

fn screen(top: &mut TopState, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, top)).unwrap();
    let text = terminal.backend().to_string();
    text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
}

#[test]
fn who_talks_most_is_first_and_only_a_page_is_looked_at() {
    let mut top = top(9000, 20);
    assert_eq!(shown(&mut top), (8981..=9000).rev().collect::<Vec<_>>());
    assert_eq!(top.flow[0], 500.0);
    assert_eq!(top.current().unwrap().rate.messages, 9000.0);
    assert_eq!(top.current().unwrap().rate.up, 900_000.0);
}

#[test]
fn nothing_seems_to_move_before_there_are_two_looks() {
    let mut top = TopState::new(false);
    top.seen(look(10.0, 3));
    assert_eq!(top.current().unwrap().rate, SessionRate::default());
    assert_eq!(top.flow, [0.0; 3]);
}

#[test]
fn letters_and_arrows_sort() {
    let mut top = top(10, 10);
    keys(&mut top, "n");
    assert_eq!(shown(&mut top)[..3], [1, 2, 3]);
    keys(&mut top, "n");
    assert_eq!(shown(&mut top)[..3], [10, 9, 8]);
    keys(&mut top, "a");
    assert_eq!(shown(&mut top)[..3], [1, 2, 3]);
    keys(&mut top, "l");
    assert_eq!(shown(&mut top)[..2], [10, 5]);
    keys(&mut top, "r");
    assert_eq!(shown(&mut top)[..3], [2, 4, 6]);
    tap(&mut top, KeyCode::Right);
    assert_eq!((top.sort, shown(&mut top)[..3].to_vec()), (SortColumn::Backend, vec![3, 6, 9]));
    for _ in 0..20 {
        tap(&mut top, KeyCode::Left);
    }
    assert_eq!(top.sort, SortColumn::Id);
}

#[test]
fn a_selected_tunnel_stays_selected_wherever_it_moves() {
    let mut top = top(100, 10);
    tap(&mut top, KeyCode::Down);
    assert_eq!(top.current().unwrap().of.session, 99);
    keys(&mut top, "n");
    assert_eq!(top.current().unwrap().of.session, 99);
    assert_eq!(shown(&mut top), (90..=99).collect::<Vec<_>>());
    tap(&mut top, KeyCode::PageUp);
    assert_eq!(top.current().unwrap().of.session, 89);
    tap(&mut top, KeyCode::Home);
    assert_eq!((top.first, top.current().unwrap().of.session), (0, 1));
    tap(&mut top, KeyCode::End);
    assert_eq!((top.first, top.current().unwrap().of.session), (90, 100));
    // It closes: whoever takes its place is selected.
    top.seen(look(12.0, 40));
    assert_eq!(top.current().unwrap().of.session, 40);
    top.seen(look(13.0, 0));
    assert!(top.current().is_none() && top.mark().is_none() && shown(&mut top).is_empty());
    assert_eq!(keys(&mut top, "k"), None);
    assert!(matches!(top.mode, TopMode::Table));
}

#[test]
fn a_filter_is_typed_kept_and_cleared() {
    let mut top = top(100, 10);
    keys(&mut top, "/CHAt");
    assert_eq!(top.counts(), (50, 100));
    tap(&mut top, KeyCode::Enter);
    // Letters are keys again.
    keys(&mut top, "n");
    assert_eq!(shown(&mut top)[..2], [2, 4]);
    top.seen(look(12.0, 100));
    assert_eq!(top.counts(), (50, 100));
    keys(&mut top, "/x");
    assert_eq!(top.counts().0, 0);
    tap(&mut top, KeyCode::Backspace);
    assert_eq!(top.counts().0, 50);
    tap(&mut top, KeyCode::Esc);
    assert_eq!(top.counts().0, 100);
    keys(&mut top, "/feed");
    tap(&mut top, KeyCode::Enter);
    assert_eq!(tap(&mut top, KeyCode::Esc), None);
    assert_eq!((top.counts().0, tap(&mut top, KeyCode::Esc)), (100, Some(TopAction::Quit)));
}

#[test]
fn a_pause_holds_the_table_and_rates_are_right_after_it() {
    let mut top = top(10, 10);
    keys(&mut top, "p");
    top.seen(look(12.0, 3));
    assert_eq!(top.counts(), (10, 10));
    keys(&mut top, " ");
    top.seen(look(13.0, 3));
    assert_eq!(top.counts(), (3, 3));
    assert_eq!(top.current().unwrap().rate.messages, 3.0);
}

#[test]
fn a_tunnel_is_closed_only_after_a_yes() {
    let mut top = top(10, 10);
    assert_eq!(keys(&mut top, "kn"), None);
    assert_eq!(keys(&mut top, "ky"), Some(TopAction::Ask(TopCommand::Kill(10))));
    assert!(matches!(top.mode, TopMode::Table));
    // What was asked about is what is closed, whoever is on top by then.
    keys(&mut top, "k");
    top.seen(look(12.0, 20));
    assert_eq!(keys(&mut top, "y"), Some(TopAction::Ask(TopCommand::Kill(10))));
}

#[test]
fn details_are_asked_for_as_long_as_they_are_shown() {
    let mut top = top(10, 10);
    assert_eq!(tap(&mut top, KeyCode::Enter), Some(TopAction::Ask(TopCommand::Detail(10))));
    assert_eq!(top.seen(look(12.0, 10)), Some(TopAction::Ask(TopCommand::Detail(10))));
    // An answer about another one comes late.
    top.told(9, Err("no tunnel 9".into()));
    assert!(screen(&mut top, 80, 24).join("\n").contains("asking ..."));
    let detail = SessionDetail {
        user_agent: Some("evil\x1b[2J".into()),
        host: "chat.example.com".into(),
        ..SessionDetail::default()
    };
    top.told(10, Ok(Box::new(detail)));
    let text = screen(&mut top, 80, 24).join("\n");
    assert!(text.contains("chat.example.com") && text.contains("evil\\u{1b}[2J"), "{text}");
    tap(&mut top, KeyCode::Esc);
    assert_eq!(top.seen(look(13.0, 10)), None);
}

#[test]
fn control_c_leaves_from_everywhere() {
    for before in ["", "/", "?", "k"] {
        let mut top = top(10, 10);
        keys(&mut top, before);
        let chord = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut top, chord), Some(TopAction::Quit));
    }
    let mut top = top(10, 10);
    let chord = KeyEvent::new(KeyCode::Char('k'), KeyModifiers::CONTROL);
    assert_eq!(press(&mut top, chord), None);
    assert!(matches!(top.mode, TopMode::Table));
}

#[test]
fn the_screen_shows_what_there_is_room_for() {
    let mut top = top(9000, 1);
    let wide = screen(&mut top, 120, 10);
    assert_eq!(wide[0], "tidegate running, up 10s   9000 tunnels, 0 refused or dropped");
    assert_eq!(wide[1], "500 messages/s, 0B/s up, 0B/s down");
    assert_eq!(wide[2], "sorted by msgs/s");
    for heading in SortColumn::ALL.map(|column| column.heading().0) {
        assert!(wide[3].contains(heading), "{heading} in {}", wide[3]);
    }
    let first: Vec<&str> = wide[4].split_whitespace().collect();
    let expected = [
        "9000",
        "192.0.2.0",
        "chat",
        "10.0.0.0:9001",
        "11s",
        "879KiB/s",
        "0B/s",
        "9000",
        "9.4MiB",
        "9.0s",
    ];
    assert_eq!(first, expected);
    assert!(wide[9].starts_with("q quit"));
    let narrow = screen(&mut top, 60, 10);
    assert!(narrow[3].contains("CLIENT") && narrow[3].contains("MSGS/S"), "{}", narrow[3]);
    assert!(!narrow[3].contains("TOTAL"), "{}", narrow[3]);
    // No size at all is a size.
    for (width, height) in [(1, 1), (1, 0), (10, 3), (5, 4)] {
        screen(&mut top, width, height);
        keys(&mut top, "?");
        screen(&mut top, width, height);
        keys(&mut top, "?");
    }
}

#[test]
fn a_process_that_went_away_is_told_of_until_it_is_back() {
    let mut top = top(10, 10);
    top.gone("no process answers at /run/tidegate/control.sock: ...".into());
    let text = screen(&mut top, 120, 10);
    assert!(text[2].starts_with("asking again: no process answers at /run"), "{}", text[2]);
    assert!(text[4].contains("192.0.2.10"));
    let mut again = look(1.0, 2);
    again.headline.started = 0.5;
    top.seen(again);
    assert_eq!(top.flow, [0.0; 3]);
    assert_eq!(screen(&mut top, 120, 10)[2], "sorted by msgs/s");
}
