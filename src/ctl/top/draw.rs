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
    let page = usize::from(area.height.saturating_sub(1));
    let rows: Vec<([String; COLUMNS], bool)> = top
        .visible(page)
        .map(|row| (SortColumn::ALL.map(|column| cell(row, column)), row.info.closing))
        .collect();
    let columns = fitting(area.width, &natural_widths(&rows));
    let align = |column: SortColumn, line: Line<'static>| {
        if is_name(column) { line } else { line.right_aligned() }
    };
    let heads = columns.iter().map(|(column, _)| {
        let (name, _) = column.heading();
        let marked = if *column == top.sort { Modifier::UNDERLINED } else { Modifier::empty() };
        let name = Span::styled(name, Style::new().add_modifier(Modifier::BOLD | marked));
        align(*column, Line::from(name))
    });
    let heads = Cells::new(heads);
    let closing = bold_colour(top, Color::Yellow);
    let stale = top.error.is_some();
    let rows = rows.into_iter().map(|(cells, is_closing)| {
        let mut cells = cells.map(Some);
        let cells = columns.iter().map(|(column, _)| {
            let text = cells.get_mut(*column as usize).and_then(Option::take);
            align(*column, Line::raw(text.unwrap_or_default()))
        });
        Cells::new(cells.collect::<Vec<_>>()).style(match (stale, is_closing) {
            (true, _) => Style::new().add_modifier(Modifier::DIM),
            (false, true) => closing,
            (false, false) => Style::new(),
        })
    });
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
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

/// The width that each column needs for its heading and the visible rows. Columns of figures that
/// change all the time do not depend on the rows, so that the table stands still.
fn natural_widths(rows: &[([String; COLUMNS], bool)]) -> [u16; COLUMNS] {
    SortColumn::ALL.map(|column| {
        let cells = rows.iter().map(|(cells, _)| cells.get(column as usize));
        let widest = cells.flatten().map(|cell| width(cell)).max().unwrap_or(0);
        let widest = u16::try_from(widest.max(width(column.heading().0))).unwrap_or(u16::MAX);
        width_of(column).unwrap_or(widest)
    })
}

/// The columns that fit into a width, and the width of each. If not all fit, names are cut first, to
/// [`NAME_MIN`], and then columns are omitted; names share what is left over.
fn fitting(available: u16, natural: &[u16; COLUMNS]) -> Vec<(SortColumn, u16)> {
    let wanted = |column: SortColumn| natural.get(column as usize).copied().unwrap_or(0);
    let least = |column: SortColumn| match is_name(column) {
        true => wanted(column).min(NAME_MIN),
        false => wanted(column),
    };
    let mut columns: Vec<_> = SortColumn::ALL.map(|column| (column, least(column))).into();
    let needed = |columns: &[(SortColumn, u16)]| {
        // One cell between two columns.
        let widths = columns.iter().map(|(_, width)| usize::from(*width) + 1);
        widths.sum::<usize>().saturating_sub(1)
    };
    for dropped in DROP_ORDER {
        if needed(&columns) <= usize::from(available) {
            break;
        }
        columns.retain(|(column, _)| *column != dropped);
    }
    let left = usize::from(available).saturating_sub(needed(&columns));
    let mut left = u16::try_from(left).unwrap_or(u16::MAX);
    for (column, width) in &mut columns {
        let more = wanted(*column).saturating_sub(*width).min(left);
        (*width, left) = (*width + more, left - more);
    }
    let mut names: Vec<_> = columns.iter_mut().filter(|(column, _)| is_name(*column)).collect();
    while let Some((_, width)) = names.pop() {
        let share = left / (names.len() as u16 + 1);
        (*width, left) = (*width + share, left - share);
    }
    columns
}

/// Width of a column of figures in cells; `None` for the others, which depend on their content.
fn width_of(column: SortColumn) -> Option<u16> {
    match column {
        SortColumn::Id | SortColumn::Client | SortColumn::Route | SortColumn::Backend => None,
        SortColumn::Age => Some(7),
        SortColumn::Up | SortColumn::Down => Some(9),
        SortColumn::Messages | SortColumn::Total | SortColumn::Rtt => Some(7),
    }
}

fn is_name(column: SortColumn) -> bool {
    matches!(column, SortColumn::Client | SortColumn::Route | SortColumn::Backend)
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
const COLUMNS: usize = SortColumn::ALL.len();
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
/// Minimum width of a column of names, if they are longer.
const NAME_MIN: u16 = 15;
