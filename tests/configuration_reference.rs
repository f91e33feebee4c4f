//! `docs/configuration.md` is made from the code and from the words of `proxy.toml.example`; this
//! holds it to them. `UPDATE=1 cargo test --test configuration_reference` writes it anew.

#![expect(clippy::panic, clippy::expect_used, reason = "this is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use tidegate::config::explain::effect::{AppliesTo, takes_effect};
use tidegate::config::explain::listing::effective;
use tidegate::config::schema::known_keys;
use tidegate::config::settings::Settings;
use tidegate::protocol::response::EffectiveKey;

const EXAMPLE: &str = include_str!("../proxy.toml.example");
const RULER: &str = "# ---- every key";
const WIDTH: usize = 100;
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

#[test]
fn reference_matches_the_code() {
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(PATH, &made).expect("docs/configuration.md can be written");
    }
    let found = fs::read_to_string(PATH).unwrap_or_default();
    let differs = made.lines().zip(found.lines()).position(|(made, found)| made != found);
    assert!(
        made == found,
        "docs/configuration.md is out of date from line {}: UPDATE=1 cargo test --test \
         configuration_reference",
        differs.map_or(0, |line| line + 1)
    );
}

#[test]
fn every_key_has_a_row() {
    let mut rows = BTreeSet::new();
    for section in sections() {
        for key in section.rows.iter().flat_map(|row| &row.keys) {
            rows.insert(format!("{}.{key}", section.path()));
        }
    }
    for key in known_keys() {
        let is_table = known_keys().iter().any(|other| other.starts_with(&format!("{key}.")));
        // The parts of a backend are told of in one row.
        let row =
            key.split_once(".backends[].").map_or(key.clone(), |(of, _)| format!("{of}.backends"));
        let is_list = ["listener", "certificate", "route"].contains(&key.as_str());
        assert!(is_table || is_list || rows.contains(&row), "{key}");
    }
}

/// A table of the file.
#[derive(Default)]
struct Section {
    /// `[[route]]`, `[route.limits]`
    header: String,
    intro: Vec<Block>,
    rows: Vec<Row>,
}

/// Keys that are told of together.
struct Row {
    keys: Vec<String>,
    words: String,
}

enum Block {
    Words(String),
    Code(String),
}

impl Section {
    /// `route[].limits`
    fn path(&self) -> String {
        let name = self.header.trim_matches(['[', ']']);
        match name.strip_prefix("route.") {
            Some(below) => format!("route[].{below}"),
            None if self.header.starts_with("[[") => format!("{name}[]"),
            None => name.to_owned(),
        }
    }

    /// Its keys are those of another table.
    fn is_like_another(&self) -> bool {
        matches!(self.header.as_str(), "[route.limits]" | "[route.heartbeat]")
    }

    fn anchor(&self) -> String {
        self.header.replace(['[', ']', '.'], "")
    }
}

fn reference() -> String {
    let sections = sections();
    let (live, _) = EXAMPLE.split_once(RULER).expect("a ruler above the keys");
    let minimal = Settings::parse(live, "proxy.toml").unwrap_or_else(|faults| panic!("{faults}"));
    let mut defaults = BTreeMap::new();
    for key in effective(&minimal) {
        defaults.insert(key.key.replace("[0]", "[]"), key);
    }
    let links: Vec<(String, String)> =
        sections.iter().map(|of| (of.header.clone(), of.anchor())).collect();
    let mut text = beginning(live);
    for section in &sections {
        write_section(&mut text, section, &defaults, &links);
    }
    text
}

fn beginning(live: &str) -> String {
    let code: Vec<&str> = live
        .lines()
        .skip_while(|line| !line.starts_with('['))
        .take_while(|line| !line.starts_with('#'))
        .collect();
    let units = live.split("# Times are").nth(1).expect("what units there are");
    let units = units.replace("\n# ", " ");
    let first = String::from(
        "One file, `proxy.toml`, in [TOML](https://toml.io). `tidegate check --config proxy.toml` \
         judges it and names every fault with its line; `tidegate ctl config` shows what is in force \
         in a running process, and where each value comes from. `proxy.toml.example` has the same \
         keys and words as this page.",
    );
    let reload = "SIGHUP, or `tidegate ctl reload`, reads the file again: all of it, or, where there \
        is a fault, nothing. `tidegate check --diff` shows before what would change, and for how \
        many open tunnels.";
    let units = format!("Times are{}", marked(units.trim_end(), &[]));
    let mut text = format!(
        "# Configuration\n\n\
         <!-- Made by UPDATE=1 cargo test --test configuration_reference -->\n\n\
         {}\n\n\
         This is a whole configuration; all else has a default:\n\n```toml\n{}\n```\n\n\
         {}\n\n## When a change takes effect\n\n{}\n\n\
         | Takes effect | A changed value ... |\n| --- | --- |\n",
        wrapped(&first),
        code.join("\n").trim(),
        wrapped(&units),
        wrapped(reload),
    );
    for takes in AppliesTo::ALL {
        let _ = writeln!(text, "| {} | {} |", takes.words(), takes.sentence());
    }
    text
}

fn write_section(
    text: &mut String,
    section: &Section,
    defaults: &BTreeMap<String, EffectiveKey>,
    links: &[(String, String)],
) {
    let _ = write!(text, "\n## `{}`\n", section.header);
    for block in &section.intro {
        let _ = match block {
            Block::Words(words) => write!(text, "\n{}\n", wrapped(&marked(words, links))),
            Block::Code(code) => write!(text, "\n```toml\n{}\n```\n", code.trim_end()),
        };
    }
    if section.is_like_another() {
        return;
    }
    text.push_str("\n| Key | Default | Takes effect | Meaning |\n| --- | --- | --- | --- |\n");
    for row in &section.rows {
        let of = |show: &dyn Fn(&str) -> String| {
            row.keys.iter().map(|key| show(key)).collect::<Vec<_>>().join("<br>")
        };
        let path = |key: &str| format!("{}.{key}", section.path());
        let keys = of(&|key| format!("`{key}`"));
        let default = of(&|key| default(defaults.get(&path(key))));
        let mut times: Vec<&str> = row
            .keys
            .iter()
            .map(|key| takes_effect(&path(key)).unwrap_or_else(|| panic!("{key}")).words())
            .collect();
        times.dedup();
        let words = match row.words.as_str() {
            "" => "As in the table above.".to_owned(),
            words => marked(words, links).replace('|', "\\|"),
        };
        let _ = writeln!(text, "| {keys} | {default} | {} | {words} |", times.join("<br>"));
        row.keys.iter().for_each(|key| write_parts(text, key, &path(key), defaults));
    }
}

/// The keys of the items of a list.
fn write_parts(
    text: &mut String,
    key: &str,
    path: &str,
    defaults: &BTreeMap<String, EffectiveKey>,
) {
    let mut parts: Vec<&str> =
        known_keys().iter().filter_map(|known| known.strip_prefix(&format!("{path}[]."))).collect();
    parts.sort_by_key(|part| *part != "address");
    for part in parts {
        let default = match part {
            "address" => "required".to_owned(),
            part => default(defaults.get(&format!("{path}[].{part}"))),
        };
        let words = format!("{key} = [{{ {part} = ... }}]");
        let takes = takes_effect(path).unwrap_or_else(|| panic!("{path}")).words();
        let _ = writeln!(text, "| `{key}[].{part}` | {default} | {takes} | As in `{words}`. |");
    }
}

/// What holds for who does not write it.
fn default(key: Option<&EffectiveKey>) -> String {
    let Some(key) = key.filter(|key| key.line.is_none()) else {
        return "required".to_owned();
    };
    // An item that is written short is its address.
    if key.from.as_deref().is_some_and(|from| from.ends_with(']')) {
        return "as `address`".to_owned();
    }
    if let Some((_, other)) = key.from.as_deref().and_then(|from| from.rsplit_once("].")) {
        return format!("as `{other}`");
    }
    match key.value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        // So that it can be broken into lines.
        Some(list) if list.contains(',') => {
            let items: Vec<String> = list.split(", ").map(|item| format!("`{item}`")).collect();
            items.join(", ")
        }
        Some(_) | None => format!("`{}`", key.value),
    }
}

/// Values as code, and tables as links.
fn marked(words: &str, links: &[(String, String)]) -> String {
    let mut marked = String::new();
    let words = ["true", "false"].into_iter().fold(words.to_owned(), |words, word| {
        match words.strip_prefix(word).filter(|rest| rest.starts_with([':', ' '])) {
            Some(rest) => format!("`{word}`{rest}"),
            None => words,
        }
    });
    for (place, part) in words.split('"').enumerate() {
        if place % 2 == 1 {
            let _ = write!(marked, "`\"{part}\"`");
            continue;
        }
        let mut part = part.to_owned();
        // Longest first: [route.limits] is not [limits].
        for (header, anchor) in links {
            part = part.replace(header, &format!("[`{header}`](#{anchor})"));
        }
        for key in known_keys().iter().filter(|key| key.contains('.') && !key.contains('[')) {
            part = part.replace(&format!("{key} "), &format!("`{key}` "));
            part = part.replace(&format!("{key}."), &format!("`{key}`."));
            part = part.replace(&format!("{key},"), &format!("`{key}`,"));
        }
        marked.push_str(&part);
    }
    // A list of values is one value.
    marked.replace("[`\"", "`[\"").replace("\"`]", "\"]`")
}

/// In lines that a person can read as they stand.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
            continue;
        }
        let between = if last.is_empty() { "" } else { " " };
        let _ = write!(last, "{between}{word}");
    }
    lines.join("\n")
}

fn sections() -> Vec<Section> {
    let (_, below) = EXAMPLE.split_once(RULER).expect("a ruler above the keys");
    let mut sections: Vec<Section> = Vec::new();
    let (mut words, mut code) = (String::new(), String::new());
    for line in below.lines().skip(1) {
        if let Some((header, intro)) = header(line) {
            let intro = (!intro.is_empty()).then(|| Block::Words(intro.to_owned()));
            let (header, intro) = (header.to_owned(), intro.into_iter().collect());
            sections.push(Section { header, intro, rows: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        let text = line.strip_prefix('#').unwrap_or("");
        if let Some(example) = text.strip_prefix("     ") {
            flush(&mut words, section, Block::Words);
            let _ = writeln!(code, "{example}");
            continue;
        }
        flush(&mut code, section, Block::Code);
        let text = text.trim();
        if text.is_empty() {
            flush(&mut words, section, Block::Words);
        } else if let Some(key) = key(text) {
            if words.is_empty()
                && let Some(last) = section.rows.last_mut()
            {
                last.keys.push(key.to_owned());
                continue;
            }
            let words = std::mem::take(&mut words);
            section.rows.push(Row { keys: vec![key.to_owned()], words });
        } else {
            let between = if words.is_empty() { "" } else { " " };
            let _ = write!(words, "{between}{text}");
        }
    }
    sections
}

/// Words above the first key belong to the table.
fn flush(buffer: &mut String, section: &mut Section, block: impl Fn(String) -> Block) {
    if !buffer.is_empty() {
        section.intro.push(block(std::mem::take(buffer)));
    }
}

/// `# [[route]]   Some words.`, or `[limits]`.
fn header(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('[') {
        return Some((line.trim_end(), ""));
    }
    let text = line.strip_prefix("# [")?;
    let end = text.find("]   ")?;
    Some((&line[2..end + 4], text[end + 1..].trim()))
}

/// The key of `key = value`.
fn key(text: &str) -> Option<&str> {
    let (key, _) = text.split_once(" = ")?;
    let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
    key.bytes().all(word).then_some(key)
}
