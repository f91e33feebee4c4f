//! Reads the comments of `proxy.toml.example`, of which the reference of the keys and the man page are
//! made.

use std::fmt::Write;
use std::mem::take;

/// The line above the list of all keys begins with this.
pub const RULER: &str = "# ---- every key";

/// A table of the file.
#[derive(Debug, Default)]
pub struct ReferenceTable {
    /// As written: `[[route]]`, `[route.limits]`.
    pub header: String,
    /// What precedes the keys.
    pub intro: Vec<ReferenceBlock>,
    /// The keys.
    pub rows: Vec<ReferenceRow>,
}

/// Keys described by one comment.
#[derive(Debug, Default)]
pub struct ReferenceRow {
    /// Name and default, or an example if there is none.
    pub keys: Vec<(String, String)>,
    /// The comment in one line; empty if the same key of another table has it.
    pub words: String,
}

/// A part of an introduction.
#[derive(Debug)]
pub enum ReferenceBlock {
    /// A paragraph in one line.
    Words(String),
    /// Lines of an example.
    Code(String),
}

impl ReferenceTable {
    /// Whether its keys repeat those of another table.
    pub fn is_like_another(&self) -> bool {
        matches!(self.header.as_str(), "[route.limits]" | "[route.heartbeat]")
    }
}

/// The tables of the file below [`RULER`].
pub fn tables(example: &str) -> Vec<ReferenceTable> {
    let mut tables: Vec<ReferenceTable> = Vec::new();
    let (mut words, mut code) = (String::new(), String::new());
    let below = example.split_once(RULER).map_or("", |(_, below)| below);
    for line in below.lines().skip(1) {
        if let Some((header, intro)) = header(line) {
            let intro = (!intro.is_empty()).then(|| ReferenceBlock::Words(intro.to_owned()));
            let (header, intro) = (header.to_owned(), intro.into_iter().collect());
            tables.push(ReferenceTable { header, intro, rows: Vec::new() });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        let text = line.strip_prefix('#').unwrap_or("");
        if let Some(example) = text.strip_prefix("     ") {
            flush(&mut words, table, ReferenceBlock::Words);
            let _ = writeln!(code, "{example}");
            continue;
        }
        flush(&mut code, table, ReferenceBlock::Code);
        let text = text.trim();
        if text.is_empty() {
            flush(&mut words, table, ReferenceBlock::Words);
        } else if let Some((key, value)) = assignment(text) {
            let key = (key.to_owned(), value.to_owned());
            match table.rows.last_mut() {
                Some(last) if words.is_empty() => last.keys.push(key),
                Some(_) | None => {
                    table.rows.push(ReferenceRow { keys: vec![key], words: take(&mut words) });
                }
            }
        } else {
            let between = if words.is_empty() { "" } else { " " };
            let _ = write!(words, "{between}{text}");
        }
    }
    tables
}

/// Text above the first key belongs to the table.
fn flush(
    buffer: &mut String,
    table: &mut ReferenceTable,
    block: impl Fn(String) -> ReferenceBlock,
) {
    if !buffer.is_empty() {
        table.intro.push(block(take(buffer)));
    }
}

/// `# [[route]]   Some words.`, or `[limits]`.
fn header(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('[') {
        return Some((line.trim_end(), ""));
    }
    let text = line.strip_prefix("# [")?;
    let (name, intro) = text.split_once("]   ")?;
    // The two characters before the bracket, and the closing one.
    line.get(2..2 + 1 + name.len() + 1).map(|header| (header, intro.trim()))
}

/// Key and value of `key = value`.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(" = ")?;
    let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
    key.bytes().all(word).then_some((key, value))
}
