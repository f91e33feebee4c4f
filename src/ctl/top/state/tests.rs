use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::ctl::top::draw::draw;
use crate::ctl::top::keys::press;

/// A sample of a number of tunnels; the i-th sends i messages of 100 bytes per second.
fn sample(now: f64, tunnels: u64) -> TopSample {
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
    let summary = StatusSummary {
        state: "running".into(),
        started: 1.0,
        now,
        tunnels,
        messages: 500 * seconds,
        ..StatusSummary::default()
    };
    TopSample { summary, sessions: SessionList { now, open: sessions.len(), sessions } }
}

/// The state after two samples, with `page` visible rows.
fn top(tunnels: u64, page: usize) -> TopState {
    let mut top = TopState::new(false);
    top.page = page;
    top.add_sample(sample(10.0, tunnels));
    top.add_sample(sample(11.0, tunnels));
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
    top.visible(page).map(|row| row.info.session).collect()
}

fn screen(top: &mut TopState, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, top)).unwrap();
    let text = terminal.backend().to_string();
    text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
}

#[test]
fn busiest_tunnels_are_first_and_limited_to_a_page() {
    let mut top = top(9000, 20);
    assert_eq!(shown(&mut top), (8981..=9000).rev().collect::<Vec<_>>());
    assert_eq!(top.total_rates[0], 500.0);
    assert_eq!(top.selected_row().unwrap().rate.messages, 9000.0);
    assert_eq!(top.selected_row().unwrap().rate.up, 900_000.0);
}

#[test]
fn rates_are_zero_after_the_first_sample() {
    let mut top = TopState::new(false);
    top.add_sample(sample(10.0, 3));
    assert_eq!(top.selected_row().unwrap().rate, SessionRate::default());
    assert_eq!(top.total_rates, [0.0; 3]);
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
fn selected_tunnel_stays_selected_when_it_moves() {
    let mut top = top(100, 10);
    tap(&mut top, KeyCode::Down);
    assert_eq!(top.selected_row().unwrap().info.session, 99);
    keys(&mut top, "n");
    assert_eq!(top.selected_row().unwrap().info.session, 99);
    assert_eq!(shown(&mut top), (90..=99).collect::<Vec<_>>());
    tap(&mut top, KeyCode::PageUp);
    assert_eq!(top.selected_row().unwrap().info.session, 89);
    tap(&mut top, KeyCode::Home);
    assert_eq!((top.first, top.selected_row().unwrap().info.session), (0, 1));
    tap(&mut top, KeyCode::End);
    assert_eq!((top.first, top.selected_row().unwrap().info.session), (90, 100));
    // The selected tunnel closes: the one at the same index is selected.
    top.add_sample(sample(12.0, 40));
    assert_eq!(top.selected_row().unwrap().info.session, 40);
    top.add_sample(sample(13.0, 0));
    assert!(
        top.selected_row().is_none()
            && top.selected_on_page().is_none()
            && shown(&mut top).is_empty()
    );
    assert_eq!(keys(&mut top, "k"), None);
    assert!(matches!(top.mode, TopMode::Table));
}

#[test]
fn filter_can_be_typed_kept_and_cleared() {
    let mut top = top(100, 10);
    keys(&mut top, "/CHAt");
    assert_eq!(top.counts(), (50, 100));
    tap(&mut top, KeyCode::Enter);
    // Letters sort again.
    keys(&mut top, "n");
    assert_eq!(shown(&mut top)[..2], [2, 4]);
    top.add_sample(sample(12.0, 100));
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
fn pause_keeps_the_rows_and_later_rates_are_correct() {
    let mut top = top(10, 10);
    keys(&mut top, "p");
    top.add_sample(sample(12.0, 3));
    assert_eq!(top.counts(), (10, 10));
    keys(&mut top, " ");
    top.add_sample(sample(13.0, 3));
    assert_eq!(top.counts(), (3, 3));
    assert_eq!(top.selected_row().unwrap().rate.messages, 3.0);
}

#[test]
fn closing_a_tunnel_needs_confirmation() {
    let mut top = top(10, 10);
    assert_eq!(keys(&mut top, "kn"), None);
    assert_eq!(keys(&mut top, "ky"), Some(TopAction::Send(TopCommand::Kill(10))));
    assert!(matches!(top.mode, TopMode::Table));
    // The confirmed tunnel is closed even if another one is selected by then.
    keys(&mut top, "k");
    top.add_sample(sample(12.0, 20));
    assert_eq!(keys(&mut top, "y"), Some(TopAction::Send(TopCommand::Kill(10))));
}

#[test]
fn details_are_refreshed_while_they_are_shown() {
    let mut top = top(10, 10);
    assert_eq!(tap(&mut top, KeyCode::Enter), Some(TopAction::Send(TopCommand::Detail(10))));
    assert_eq!(top.add_sample(sample(12.0, 10)), Some(TopAction::Send(TopCommand::Detail(10))));
    // A late response about another tunnel is ignored.
    top.set_detail(9, Err("no tunnel 9".into()));
    assert!(screen(&mut top, 80, 24).join("\n").contains("loading ..."));
    let detail = SessionDetail {
        user_agent: Some("evil\x1b[2J".into()),
        host: "chat.example.com".into(),
        ..SessionDetail::default()
    };
    top.set_detail(10, Ok(Box::new(detail)));
    let text = screen(&mut top, 80, 24).join("\n");
    assert!(text.contains("chat.example.com") && text.contains("evil\\u{1b}[2J"), "{text}");
    tap(&mut top, KeyCode::Esc);
    assert_eq!(top.add_sample(sample(13.0, 10)), None);
}

#[test]
fn control_c_quits_from_every_mode() {
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
fn columns_are_dropped_on_narrow_screens() {
    let mut top = top(9000, 1);
    let wide = screen(&mut top, 120, 10);
    assert_eq!(wide[0], "tidegate running, up 10s   9000 tunnels, 0 rejected or dropped");
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
    // Short names leave room for more columns.
    let usual = screen(&mut top, 80, 10);
    assert!(usual[3].contains("BACKEND") && usual[3].contains("RTT"), "{}", usual[3]);
    assert!(!usual[3].contains("TOTAL"), "{}", usual[3]);
    assert_eq!(wide[3].len(), 120, "{}", wide[3]);
    let narrow = screen(&mut top, 60, 10);
    assert!(narrow[3].contains("CLIENT") && narrow[3].contains("MSGS/S"), "{}", narrow[3]);
    assert!(!narrow[3].contains("TOTAL"), "{}", narrow[3]);
    // Long names are cut before a column is omitted, and shown in full where there is room.
    let mut names = sample(11.0, 1);
    names.sessions.sessions[0].client = "2001:db8:1234:5678::/64".into();
    names.sessions.sessions[0].route = "chat.example.com/a/long/path".into();
    top.add_sample(names);
    let cut = screen(&mut top, 110, 10);
    assert!(cut[3].contains("BACKEND") && cut[3].contains("TOTAL"), "{}", cut[3]);
    assert!(cut[4].contains("2001:db8:1234:5") && !cut[4].contains("/long/path"), "{}", cut[4]);
    let full = screen(&mut top, 140, 10);
    for name in ["2001:db8:1234:5678::/64 ", "chat.example.com/a/long/path "] {
        assert!(full[4].contains(name), "{name} is not in {}", full[4]);
    }
    // Drawing must not fail at any size.
    for (width, height) in [(1, 1), (1, 0), (10, 3), (5, 4)] {
        screen(&mut top, width, height);
        keys(&mut top, "?");
        screen(&mut top, width, height);
        keys(&mut top, "?");
    }
}

#[test]
fn sampling_error_is_shown_until_recovery() {
    let mut top = top(10, 10);
    top.set_error("cannot connect to the control socket /run/tidegate/control.sock: ...".into());
    let text = screen(&mut top, 120, 10);
    assert!(
        text[2].starts_with("retrying: cannot connect to the control socket /run"),
        "{}",
        text[2]
    );
    assert!(text[4].contains("192.0.2.10"));
    let mut again = sample(1.0, 2);
    again.summary.started = 0.5;
    top.add_sample(again);
    assert_eq!(top.total_rates, [0.0; 3]);
    assert_eq!(screen(&mut top, 120, 10)[2], "sorted by msgs/s");
}
