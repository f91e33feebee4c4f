//! Checks that `docs/requirements.md` and the comments on the tests agree.
//!
//! A test that covers requirements has a comment `// Requirements: ID, ID.` above its attribute, and
//! the row of each of these ids names the file and the test.

#![allow(clippy::unwrap_used, reason = "failing the test is intended")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const MARK: &str = "// Requirements: ";

/// Requirement id, file and test.
type Coverage = BTreeSet<[String; 3]>;

#[test]
fn table_and_test_comments_agree() {
    let (table, tests) = (documented(), commented());
    assert!(table.len() > 500, "only {} entries found in the table", table.len());
    let missing: Vec<_> = table.difference(&tests).collect();
    assert!(missing.is_empty(), "in docs/requirements.md, but no such test: {missing:#?}");
    let unlisted: Vec<_> = tests.difference(&table).collect();
    assert!(unlisted.is_empty(), "tests missing in docs/requirements.md: {unlisted:#?}");
}

#[test]
fn every_requirement_has_one_described_row() {
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().map(|[id, ..]| id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "an id has two rows");
    for [id, text, tests] in &rows {
        assert!(text.split_whitespace().count() > 3, "{id} is not described");
        assert!(!tests.is_empty(), "{id} has no test");
    }
}

#[test]
fn test_names_contain_no_ids() {
    for (path, text) in sources() {
        for name in text.lines().filter_map(function) {
            let first = name.split('_').next().unwrap_or_default();
            let number = first.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let is_id = (1..=2).contains(&(first.len() - number.len()))
                && number.len() == 2
                && number.bytes().all(|byte| byte.is_ascii_digit());
            assert!(!is_id, "{path}: {name}");
        }
    }
}

/// The rows of the tables: id, description and tests.
fn rows() -> Vec<[String; 3]> {
    let text = fs::read_to_string("docs/requirements.md").unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        let [id, text, tests] = cells.try_into().ok()?;
        let is_row = id != "Id" && !id.starts_with('-');
        is_row.then(|| [id, text, tests.trim_end_matches(" |")].map(str::to_owned))
    });
    rows.collect()
}

/// What the tables say. A tests cell lists files and their tests: `` `file`: `test`, `test`; ... ``.
fn documented() -> Coverage {
    let mut all = Coverage::new();
    for [id, _, cell] in rows() {
        for part in cell.split("; ") {
            let (file, tests) = part.split_once(": ").unwrap();
            for test in tests.split(", ") {
                all.insert([id.clone(), file.replace('`', ""), test.replace('`', "")]);
            }
        }
    }
    all
}

/// What the comments on the tests say.
fn commented() -> Coverage {
    let mut all = Coverage::new();
    for (path, text) in sources() {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(ids) = line.trim().strip_prefix(MARK) else { continue };
            let test = lines.by_ref().find_map(function).unwrap();
            for id in ids.trim_end_matches('.').split(", ") {
                all.insert([id.to_owned(), path.clone(), test.to_owned()]);
            }
        }
    }
    all
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

/// Every Rust source file with its text, but this one, which contains the mark.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "crates", "tools", "ws"] {
        collect(Path::new(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && path != Path::new(file!()) {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}
