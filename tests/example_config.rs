//! Checks `proxy.toml.example` against the code: it parses as it is, its comments state the
//! defaults, and it names exactly the known keys.

#![expect(clippy::panic, clippy::expect_used, reason = "this is how a test fails")]

use std::collections::BTreeSet;

use tidegate::config::schema::known_keys;
use tidegate::config::settings::Settings;
use toml::de::{DeTable, DeValue};

const EXAMPLE: &str = include_str!("../proxy.toml.example");
const POOL: &str = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9001\"]\ntls = true\n";
const RULER: &str = "# ---- every key";

#[test]
fn first_lines_are_a_complete_configuration() {
    let (live, _) = EXAMPLE.split_once(RULER).expect("a ruler above the keys");
    let lines = live.lines().skip_while(|line| !line.starts_with('['));
    let uncommented = lines.take_while(|line| !line.starts_with('#')).count();
    assert!(uncommented <= 12, "{uncommented} lines");
    assert_eq!(parse(live), parse(EXAMPLE), "the tables below hold nothing that is not a comment");
}

#[test]
fn commented_values_are_the_defaults() {
    let mut written = parse(&uncommented());
    // No route uses it.
    let pools = std::mem::take(&mut written.pools);
    // The table alone orders certificates.
    let acme = written.acme.take();
    assert_eq!(written, parse(EXAMPLE));
    assert_eq!(acme, parse(&format!("{EXAMPLE}[acme]\naccept_terms = true\n")).acme);
    assert_eq!(pools, parse(&format!("{EXAMPLE}{POOL}")).pools);
}

#[test]
fn every_line_can_be_uncommented_alone() {
    let (_, below) = EXAMPLE.split_once(RULER).expect("a ruler above the keys");
    let at = EXAMPLE.len() - below.len();
    let tables = at + below.find("\n[").expect("tables that are no comments");
    let mut offset = tables;
    let mut tried = 0;
    for line in EXAMPLE[tables..].split_inclusive('\n') {
        if let Some(key) = commented(line) {
            let text = format!("{}{key}\n{}", &EXAMPLE[..offset], &EXAMPLE[offset + line.len()..]);
            assert_eq!(parse(&text), parse(EXAMPLE), "{key}");
            tried += 1;
        }
        offset += line.len();
    }
    assert!(tried > 45, "only {tried} keys were tried");
}

#[test]
fn long_form_of_a_limit_is_valid() {
    let forms: Vec<&str> = EXAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("#     "))
        .filter(|line| line.contains(" = { "))
        .collect();
    assert_eq!(forms.len(), 2, "one that has a max, and one that has a rate");
    for form in forms {
        let (key, _) = form.split_once(" = ").expect("a key");
        let text = EXAMPLE.replace("\n[limits]\n", &format!("\n[limits]\n{form}\n"));
        assert_ne!(parse(&text), parse(EXAMPLE), "{key}");
    }
}

#[test]
fn file_lists_exactly_the_known_keys() {
    let text = uncommented();
    let root = DeTable::parse(&text).expect("TOML");
    let mut written = BTreeSet::new();
    collect("", root.get_ref(), &mut written);
    let known: BTreeSet<String> = known_keys().iter().cloned().collect();
    assert_eq!(written, known);
}

fn parse(text: &str) -> Settings {
    Settings::parse(text, "proxy.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

/// The part below the ruler with every commented header and key uncommented: the same
/// configuration, written out.
fn uncommented() -> String {
    let (_, below) = EXAMPLE.split_once(RULER).expect("a ruler above the keys");
    let lines = below.lines().skip(1).map(|line| commented(line).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The header or key in a comment line, unless the line is prose.
fn commented(line: &str) -> Option<&str> {
    let text = line.trim_end().strip_prefix("# ")?;
    if let Some(end) = text.starts_with('[').then(|| text.find("]   ")).flatten() {
        return Some(&text[..=end]);
    }
    let (key, _) = text.split_once(" = ")?;
    let word =
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
    word.then_some(text)
}

fn collect(prefix: &str, table: &DeTable<'_>, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        keys.insert(path.clone());
        if let Some(table) = value.get_ref().as_table() {
            collect(&path, table, keys);
        }
        for item in value.get_ref().as_array().into_iter().flatten() {
            if let DeValue::Table(table) = item.get_ref() {
                collect(&format!("{path}[]"), table, keys);
            }
        }
    }
}
