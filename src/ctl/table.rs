//! Plain tables: a heading, and columns that stand under each other.

use std::fmt::Write;

use ratatui::text::Span;

/// A table under construction.
pub struct TextTable {
    columns: Vec<TextColumn>,
    rows: Vec<Vec<String>>,
}

/// To which side a column is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

struct TextColumn {
    heading: &'static str,
    align: Align,
    width: usize,
}

impl TextTable {
    /// One without rows yet.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        let column = |&(heading, align): &(&'static str, Align)| TextColumn {
            heading,
            align,
            width: width(heading),
        };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// One more row; what it holds is made [`sanitize`].
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| sanitize(&cell)).collect();
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(width(cell));
        }
        self.rows.push(cells);
    }

    /// Nothing but the heading.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text, line by line; the heading is bold where there is colour.
    pub fn text(&self, colour: bool) -> String {
        let headings: Vec<&str> = self.columns.iter().map(|column| column.heading).collect();
        let heading = self.line(&headings);
        let mut text = match colour {
            true => format!("\x1b[1m{heading}\x1b[0m\n"),
            false => format!("{heading}\n"),
        };
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text.push_str(&self.line(&cells));
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[&str]) -> String {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let blank = column.width.saturating_sub(width(cell));
            let _ = match column.align {
                Align::Left => write!(line, "{cell}{:blank$}  ", ""),
                Align::Right => write!(line, "{:blank$}{cell}  ", ""),
            };
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Text that others chose, without what a terminal would obey.
pub fn sanitize(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        // Marks of direction could make a line read as another.
        if character.is_control()
            || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Cells of a terminal.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut table = TextTable::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["a".into(), "1".into()]);
        table.row(["日本語".into(), "1234".into()]);
        assert_eq!(table.text(false), "NAME       N\na          1\n日本語  1234\n");
        assert!(table.text(true).starts_with("\x1b[1mNAME"));
    }

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(sanitize("a\x1b[2J\nb\u{202e}é"), "a\\u{1b}[2J\\nb\\u{202e}é");
    }
}
