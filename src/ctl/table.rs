//! Text tables with aligned columns.

use std::fmt::Write;

use ratatui::text::Span;

/// A table with a heading.
pub struct TextTable {
    columns: Vec<TextColumn>,
    rows: Vec<Vec<String>>,
}

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

struct TextColumn {
    heading: &'static str,
    align: Align,
    width: usize,
}

impl TextTable {
    /// A table with these headings and no rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        let column = |&(heading, align): &(&'static str, Align)| TextColumn {
            heading,
            align,
            width: width(heading),
        };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells are sanitized with [`sanitize`].
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| sanitize(&cell)).collect();
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(width(cell));
        }
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Formats the table. The heading is bold if colours are allowed.
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

/// Escapes control characters of untrusted text, so that it cannot send commands to the terminal.
pub fn sanitize(text: &str) -> String {
    let mut sanitized = String::with_capacity(text.len());
    for character in text.chars() {
        // Bidirectional controls and line separators could disguise the content of a line.
        if character.is_control()
            || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            sanitized.extend(character.escape_default());
        } else {
            sanitized.push(character);
        }
    }
    sanitized
}

/// Width of a text in terminal cells.
pub fn width(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.push(["a".into(), "1".into()]);
        table.push(["日本語".into(), "1234".into()]);
        assert_eq!(table.text(false), "NAME       N\na          1\n日本語  1234\n");
        assert!(table.text(true).starts_with("\x1b[1mNAME"));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(sanitize("a\x1b[2J\nb\u{202e}é"), "a\\u{1b}[2J\\nb\\u{202e}é");
    }
}
