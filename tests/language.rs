//! Holds the project's language: retired names and the words of its former dialect stay out, and a type
//! name means one thing. `docs/glossary.md` has the terms to use instead.

#![allow(clippy::unwrap_used, reason = "failing the test is intended")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Type names that were metaphors, or meant several things.
const RETIRED_NAMES: &[&str] = &[
    "Arrival",
    "Breach",
    "Clocks",
    "Complaint",
    "Course",
    "Deciding",
    "Desk",
    "Door",
    "DoorKey",
    "Doors",
    "Elder",
    "Farewell",
    "Findings",
    "Gate",
    "Ground",
    "Guest",
    "Hall",
    "Heir",
    "Heirloom",
    "House",
    "Inquiry",
    "Intake",
    "Interjection",
    "Introduction",
    "Judge",
    "Judged",
    "KnownBy",
    "Landmine",
    "Lane",
    "Leaving",
    "LastWords",
    "LeanStream",
    "Manner",
    "Mouth",
    "Offence",
    "Outbox",
    "Parting",
    "Particulars",
    "Passage",
    "Presence",
    "Pulse",
    "Refusal",
    "Renewal",
    "Roll",
    "Seat",
    "Speech",
    "Standing",
    "StockStream",
    "Story",
    "Tally",
    "Toward",
    "Twin",
    "Visitor",
    "Voice",
];

/// Words and phrases that plain technical English does without. Lower case, matched at word ends.
const DIALECT: &[&str] = &[
    "anew",
    "anybody",
    "are told",
    "beside",
    "called the roll",
    "dismissed",
    "dry up",
    "forsaken",
    "is told",
    "lawful",
    "let go of",
    "likewise",
    "made to wait",
    "nobody",
    "of one that",
    "so many",
    "somebody",
    "the dog",
    "the house",
    "told of",
    "unlawful",
    "was told",
    "whoever",
    "whom",
    "worth a look",
];

/// What is read: sources by comments and strings, everything else as a whole.
const READ: &[&str] = &[
    "src",
    "crates",
    "tools",
    "tests",
    "benches",
    "fuzz/fuzz_targets",
    "docs",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "proxy.toml.example",
    "interop",
    "contrib",
    "packaging",
    "systemd",
];

/// Files that must name what is retired.
const EXEMPT: &[&str] =
    &["tests/language.rs", "docs/glossary.md", "src/config/toml/synonyms/names.rs"];

/// Words of other programs: the user `nobody`, and an option of systemctl.
const FOREIGN: &[&str] = &["`nobody`", "--reuid nobody", "--kill-whom"];

/// Type names that are the same idea behind each module path.
const SHARED_TYPE_NAMES: &[&str] = &["Error"];

#[test]
fn no_dialect_word_is_used() {
    let mut found = Vec::new();
    for file in files() {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        for (number, line) in text.lines().enumerate() {
            let prose = if is_rust { prose(line) } else { line.to_owned() };
            for word in dialect_words(&prose) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_retired_name_is_used() {
    let mut found = Vec::new();
    for file in files().iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            for name in retired_names(line) {
                found.push(format!("{}:{}: {name}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn type_names_mean_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files() {
        let is_source = file.starts_with("src") || file.starts_with("crates");
        let is_test = file.iter().any(|part| part == "tests" || part == "tests.rs");
        if !is_source || is_test || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        for name in type_names(&fs::read_to_string(&file).unwrap()) {
            places.entry(name).or_default().push(file.display().to_string());
        }
    }
    places.retain(|name, files| files.len() > 1 && !SHARED_TYPE_NAMES.contains(&name.as_str()));
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn offending_text_is_found() {
    assert_eq!(prose("let beside = 1; // as lawful as \"x\""), "// as lawful as \"x\"");
    assert_eq!(prose("log(\"nobody came\", beside)"), "nobody came");
    assert_eq!(dialect_words("Whoever leaves is told of."), ["is told", "told of", "whoever"]);
    assert_eq!(dialect_words("the household is besides unlawfully whomsoever"), [""; 0]);
    assert_eq!(retired_names("fn open(gate: &Gate, mouth: Mouth<S>)"), ["Gate", "Mouth"]);
    assert_eq!(retired_names("fn open(gate: &GateWay) // Gates"), [""; 0]);
    let text = "pub struct A;\nenum B {}\n#[cfg(test)]\nmod tests { struct C; }";
    assert_eq!(type_names(text), ["A", "B"]);
}

/// The comment and the string literals of a line of Rust.
fn prose(line: &str) -> String {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return trimmed.to_owned();
    }
    let (mut prose, mut in_string, mut escaped) = (String::new(), false, false);
    let mut characters = line.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match (in_string, character) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_string = !in_string,
            (true, _) => prose.push(character),
            (false, '/') if characters.peek().is_some_and(|(_, next)| *next == '/') => {
                return prose + &line[at..];
            }
            (false, _) => {}
        }
    }
    prose
}

fn dialect_words(text: &str) -> Vec<&'static str> {
    let mut text = text.to_lowercase();
    FOREIGN.iter().for_each(|word| text = text.replace(word, ""));
    DIALECT.iter().filter(|word| contains_word(&text, word)).copied().collect()
}

fn retired_names(line: &str) -> Vec<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    RETIRED_NAMES.iter().filter(|name| contains_word(code, name)).copied().collect()
}

/// Whether `word` occurs with no letter, digit or underscore next to it.
fn contains_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

/// The types that a file defines at its top level, unit tests left out.
fn type_names(text: &str) -> Vec<String> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let definitions = lines.filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        let keyword = words.next()?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&keyword);
        let name = words.next().filter(|_| is_type && !line.starts_with(' '))?;
        Some(name.split(|c: char| !c.is_alphanumeric()).next()?.to_owned())
    });
    definitions.collect()
}

fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    READ.iter().for_each(|path| collect(Path::new(path), &mut found));
    found.retain(|file| !EXEMPT.iter().any(|exempt| file.ends_with(exempt)));
    found
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) {
    const TEXT: &[&str] = &["rs", "md", "toml", "example", "html", "js", "cjs", "py", "yml", "sh"];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
    } else if !path.components().any(|part| part.as_os_str() == "node_modules") {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_none_or(|extension| TEXT.contains(&extension)) {
            found.push(path.to_owned());
        }
    }
}
