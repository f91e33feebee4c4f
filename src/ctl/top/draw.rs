//! Draws `top`: three lines about the process, the table and a line of keys, with an optional box
//! over them.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row as Cells, Table, TableState};

use super::keys::HELP;
use super::state::{SortColumn, TopMode, TopState, TunnelRow};
use crate::ctl::format::{age, byte_rate, bytes, count, rate, round_trip};
use crate::ctl::sessions::{detail_fields, total};
use crate::ctl::table::{sanitize, width};

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, top: &mut TopState) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(HEAD_LINES),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(top)), head);
    table(frame, top, body);
    frame.render_widget(Paragraph::new(footer(top)), foot);
    match &top.mode {
        TopMode::Detail(session, detail) => {
            let lines: Vec<(String, String)> = match detail {
                None => vec![("".into(), "loading ...".into())],
                Some(Err(error)) => vec![("".into(), error.clone())],
                Some(Ok(detail)) => detail_fields(detail)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            };
            draw_box(
                frame,
                &format!(" tunnel {session}: k to close it, any other key to return "),
                &lines,
            );
        }
        TopMode::Help => {
            let lines = HELP.map(|(keys, what)| (keys.to_owned(), what.to_owned()));
            draw_box(frame, " keys ", &lines);
        }
        TopMode::Confirm(_) | TopMode::Filter | TopMode::Table => {}
    }
}

fn heading(top: &TopState) -> Vec<Line<'static>> {
    let summary = &top.summary;
    let [messages, up, down] = top.total_rates;
    let up_for = age(((summary.now - summary.started).max(0.0) * 1000.0) as u64);
    let process = format!(
        "tidegate {}, up {up_for}   {}, {} rejected or dropped",
        summary.state,
        count(summary.tunnels, "tunnel"),
        summary.rejected,
    );
    let flow =
        format!("{} messages/s, {} up, {} down", rate(messages), byte_rate(up), byte_rate(down));
    let (shown, all) = top.counts();
    let mut state = vec![format!("sorted by {}", top.sort.heading().0.to_lowercase())];
    if top.reversed {
        state.push("reversed".into());
    }
    if !top.filter.is_empty() {
        state.push(format!("{shown} of {all} match \"{}\"", sanitize(&top.filter)));
    }
    if top.paused {
        state.push("PAUSED".into());
    }
    let warn = bold_colour(top, Color::Yellow);
    let last = match &top.error {
        Some(error) => {
            Line::styled(format!("retrying: {}", sanitize(error)), bold_colour(top, Color::Red))
        }
        None if top.paused => Line::styled(state.join(", "), warn),
        None => Line::raw(state.join(", ")),
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let running = summary.state == "running";
    vec![Line::styled(process, if running { bold } else { warn }), Line::raw(flow), last]
}

fn table(frame: &mut Frame<'_>, top: &mut TopState, area: Rect) {
    let columns = fitting(area.width);
    let heads = columns.iter().map(|column| {
        let (name, _) = column.heading();
        let marked = if *column == top.sort { Modifier::UNDERLINED } else { Modifier::empty() };
        let name = Span::styled(name, Style::new().add_modifier(Modifier::BOLD | marked));
        if is_name(*column) { Line::from(name) } else { Line::from(name).right_aligned() }
    });
    let heads = Cells::new(heads);
    let widths = columns.iter().map(|column| match width_of(*column) {
        Some(width) => Constraint::Length(width),
        None => Constraint::Fill(fill_weight(*column)),
    });
    let widths: Vec<Constraint> = widths.collect();
    let closing = bold_colour(top, Color::Yellow);
    let stale = top.error.is_some();
    let page = usize::from(area.height.saturating_sub(1));
    let rows: Vec<Cells<'static>> = top
        .visible(page)
        .map(|row| {
            let cells = columns.iter().map(|column| {
                let cell = Line::raw(cell(row, *column));
                if is_name(*column) { cell } else { cell.right_aligned() }
            });
            let style = match (stale, row.info.closing) {
                (true, _) => Style::new().add_modifier(Modifier::DIM),
                (false, true) => closing,
                (false, false) => Style::new(),
            };
            Cells::new(cells).style(style)
        })
        .collect();
    let selected = Style::new().add_modifier(Modifier::REVERSED);
    let table = Table::new(rows, widths).header(heads).row_highlight_style(selected);
    let mut state = TableState::new().with_selected(top.selected_on_page());
    frame.render_stateful_widget(table, area, &mut state);
}

fn footer(top: &TopState) -> Line<'static> {
    let keys = "q quit  ? help  / filter  arrows select, sort  space pause  enter details  k close";
    match (&top.mode, &top.message) {
        (TopMode::Confirm(session), _) => {
            Line::styled(format!("close tunnel {session}? y/n"), bold_colour(top, Color::Red))
        }
        (TopMode::Filter, _) => {
            Line::raw(format!("/{}_  (enter: keep, esc: clear)", sanitize(&top.filter)))
        }
        (TopMode::Detail(..) | TopMode::Help | TopMode::Table, Some(message)) => {
            Line::raw(sanitize(message))
        }
        (TopMode::Detail(..) | TopMode::Help | TopMode::Table, None) => Line::raw(keys),
    }
}

/// Draws a box in the centre, as large as its content if the screen allows.
fn draw_box(frame: &mut Frame<'_>, title: &str, lines: &[(String, String)]) {
    let area = frame.area();
    let names = lines.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let text: Vec<Line<'_>> = lines
        .iter()
        .map(|(name, value)| Line::raw(format!(" {name:names$}  {} ", sanitize(value))))
        .collect();
    let widest = text.iter().map(Line::width).max().unwrap_or(0).max(width(title)) + 2;
    let [area] =
        Layout::horizontal([Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))])
            .flex(ratatui::layout::Flex::Center)
            .areas(area);
    let tall = u16::try_from(text.len() + 2).unwrap_or(u16::MAX);
    let [area] = Layout::vertical([Constraint::Length(tall)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(title)), area);
}

/// The columns that fit into a width.
fn fitting(available: u16) -> Vec<SortColumn> {
    let mut columns = SortColumn::ALL.to_vec();
    for dropped in DROP_ORDER {
        let needed: u16 =
            columns.iter().map(|column| 1 + width_of(*column).unwrap_or(NAME_MIN)).sum();
        if needed <= available {
            break;
        }
        columns.retain(|column| *column != dropped);
    }
    columns
}

/// Width of a numeric column in cells; `None` for names, which share the rest.
fn width_of(column: SortColumn) -> Option<u16> {
    match column {
        SortColumn::Id => Some(9),
        SortColumn::Client | SortColumn::Route | SortColumn::Backend => None,
        SortColumn::Age => Some(7),
        SortColumn::Up | SortColumn::Down => Some(9),
        SortColumn::Messages | SortColumn::Total | SortColumn::Rtt => Some(7),
    }
}

/// Share of the width left for names. IPv6 client keys are the longest.
fn fill_weight(column: SortColumn) -> u16 {
    match column {
        SortColumn::Client => 5,
        SortColumn::Backend => 4,
        SortColumn::Route => 3,
        SortColumn::Id
        | SortColumn::Age
        | SortColumn::Up
        | SortColumn::Down
        | SortColumn::Messages
        | SortColumn::Total
        | SortColumn::Rtt => 0,
    }
}

fn is_name(column: SortColumn) -> bool {
    width_of(column).is_none()
}

fn cell(row: &TunnelRow, column: SortColumn) -> String {
    match column {
        SortColumn::Id => row.info.session.to_string(),
        SortColumn::Client => sanitize(&row.info.client),
        SortColumn::Route => sanitize(&row.info.route),
        SortColumn::Backend => sanitize(&row.info.backend),
        SortColumn::Age => age(row.info.age_ms),
        SortColumn::Up => byte_rate(row.rate.up),
        SortColumn::Down => byte_rate(row.rate.down),
        SortColumn::Messages => rate(row.rate.messages),
        SortColumn::Total => bytes(total(&row.info)),
        SortColumn::Rtt => round_trip(row.info.client_rtt_ms),
    }
}

fn bold_colour(top: &TopState, colour: Color) -> Style {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if top.colour { bold.fg(colour) } else { bold }
}

const HEAD_LINES: u16 = 3;
/// Columns to omit on narrow screens, in this order.
const DROP_ORDER: [SortColumn; 8] = [
    SortColumn::Total,
    SortColumn::Rtt,
    SortColumn::Backend,
    SortColumn::Id,
    SortColumn::Route,
    SortColumn::Age,
    SortColumn::Up,
    SortColumn::Down,
];
/// Minimum width of a column of names.
const NAME_MIN: u16 = 15;
