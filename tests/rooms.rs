//! The layers of `src/` and the size of its files, held by a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by row, lowest first. A room imports only from lower rows, and from itself.
const ROWS: [&[&str]; 5] = [
    &["visitor", "handshake", "outcome", "stream", "ws", "control"],
    &["config", "observe"],
    &["accept", "admit", "backend", "tunnel"],
    &["run", "demo", "ctl"],
    &["cli"],
];

/// What a room may use beside lower rows.
const WITHIN_A_ROW: [(&str, &str); 4] =
    [("handshake", "outcome"), ("handshake", "visitor"), ("observe", "config"), ("demo", "run")];

/// The core knows nobody.
const ALONE: &str = "ws";

/// Lines above the unit tests.
const FILE_LINES_MAX: usize = 400;

#[test]
fn rooms_import_only_from_lower_rows() {
    let mut faults = Vec::new();
    for file in sources(Path::new("src")) {
        let Some(room) = room_of(&file) else { continue };
        for used in imports(&fs::read_to_string(&file).unwrap()) {
            if used == room || allowed(&room, &used) {
                continue;
            }
            faults.push(format!("{}: {room} uses {used}", file.display()));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn files_stay_readable() {
    let mut faults = Vec::new();
    for file in sources(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(faults.is_empty(), "more than {FILE_LINES_MAX} lines: {faults:#?}");
}

#[test]
fn every_room_has_a_row() {
    let known: BTreeSet<&str> = ROWS.concat().into_iter().collect();
    let found: BTreeSet<String> =
        sources(Path::new("src")).iter().filter_map(|file| room_of(file)).collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, known);
}

#[test]
fn the_test_itself_sees_what_it_should() {
    let text = "use crate::ws::{Session};\nlet x = crate::config::values::shown(y);\n// crate::no";
    assert_eq!(imports(text), ["config", "ws"].map(String::from).into());
    assert!(allowed("tunnel", "ws") && !allowed("ws", "tunnel") && !allowed("admit", "backend"));
}

fn allowed(room: &str, used: &str) -> bool {
    let row = |name| ROWS.iter().position(|row| row.contains(&name));
    room != ALONE && (row(used) < row(room) || WITHIN_A_ROW.contains(&(room, used)))
}

/// `src/ws/meter.rs` and `src/visitor.rs` lie in `ws` and `visitor`; the roots lie in no room.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main")).then(|| room.to_owned())
}

/// The rooms named by `crate::room` in code, unit tests left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let mut used = BTreeSet::new();
    for line in code.filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            used.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    used.remove("");
    used
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
