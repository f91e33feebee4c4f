//! Holds the layers of `src/`, forbids cycles between its files, and bounds the size of every file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders (or files) directly under `src/`, lowest layer first. A module imports from its own
/// folder and from lower layers only; folders of one layer do not import each other.
const LAYERS: [&[&str]; 13] = [
    &["sys"],
    &["client", "net", "control_protocol", "reject"],
    &["http"],
    &["config"],
    &["telemetry"],
    &["admission", "downstream", "listener", "tls", "tunnel", "upstream"],
    &["acme", "sessions"],
    &["proxy"],
    &["server"],
    &["admin"],
    &["app"],
    &["ctl", "demo"],
    &["allocator", "cli"],
];

/// Lines of a file above its unit tests; files that are tests count as a whole.
const FILE_LINES_MAX: usize = 400;

/// Crates in which cycles between files are forbidden.
const CRATES: [&str; 2] = ["crates/ws/src", "src"];

/// Where Rust sources are held to [`FILE_LINES_MAX`].
const SOURCES: [&str; 6] = ["src", "crates", "tools", "tests", "benches", "fuzz/fuzz_targets"];

#[test]
fn folders_import_only_from_lower_layers() {
    let modules = modules("src");
    let mut violations = Vec::new();
    for (module, file) in &modules {
        let Some(folder) = folder_of(module) else { continue };
        for used in imports(module, &fs::read_to_string(file).unwrap(), &modules) {
            let Some(target) = folder_of(&used) else { continue };
            if target != folder && layer(target) >= layer(folder) {
                violations.push(format!("{module} imports {used}"));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn every_folder_has_a_layer() {
    let known: BTreeSet<&str> = LAYERS.concat().into_iter().collect();
    let modules = modules("src");
    let found: BTreeSet<&str> = modules.keys().filter_map(|module| folder_of(module)).collect();
    assert_eq!(found, known);
}

#[test]
fn files_do_not_import_each_other_in_cycles() {
    for root in CRATES {
        let modules = modules(root);
        let graph: BTreeMap<String, BTreeSet<String>> = modules
            .iter()
            .map(|(module, file)| {
                let text = fs::read_to_string(file).unwrap();
                (module.clone(), imports(module, &text, &modules))
            })
            .collect();
        let cycles = cycles(&graph);
        assert!(cycles.is_empty(), "{root}: {cycles:#?}");
    }
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for folder in SOURCES.map(Path::new).into_iter().filter(|folder| folder.exists()) {
        for file in sources(folder) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            if lines > FILE_LINES_MAX {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "more than {FILE_LINES_MAX} lines: {long:#?}");
}

#[test]
fn imports_are_seen_in_every_form() {
    let modules: BTreeMap<String, PathBuf> = ["a", "a::b", "a::c", "d", "d::e", "f"]
        .map(|module| (module.to_owned(), PathBuf::new()))
        .into();
    let seen = |text: &str| imports("a::b", text, &modules);
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen("use crate::{d::{e::X, self}, f::Y};"), all(&["d", "d::e", "f"]));
    assert_eq!(seen("use super::c::Z as Other;\nlet x = crate::d::make(1);"), all(&["a::c", "d"]));
    assert_eq!(seen("pub(crate) use crate::f::{\n    G,\n    H,\n};"), all(&["f"]));
    assert_eq!(seen("use super::Item;"), all(&["a"]));
    assert_eq!(seen("// crate::d\n#[cfg(test)]\nmod tests { use crate::f::Y; }"), all(&[]));
}

#[test]
fn cycles_are_found() {
    let graph = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")].into_iter();
    let graph = graph.map(|(from, to)| (from.to_owned(), [to.to_owned()].into())).collect();
    assert_eq!(cycles(&graph), [["a", "b", "c"].map(String::from)]);
}

fn layer(folder: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&folder)).unwrap_or(usize::MAX)
}

/// `sessions` of `sessions::registry`; none for the crate roots.
fn folder_of(module: &str) -> Option<&str> {
    let first = module.split("::").next()?;
    (!matches!(first, "lib" | "main")).then_some(first)
}

/// Module path and file of each module under `root`, unit tests in files of their own left out.
fn modules(root: &str) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for file in sources(Path::new(root)) {
        let inside = file.strip_prefix(root).unwrap().with_extension("");
        let mut parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        if !parts.contains(&"tests") {
            found.insert(parts.join("::"), file);
        }
    }
    found
}

/// The modules that a module's code names, its unit tests and comments left out. An import of an
/// item counts as one of the module that the path leads to.
fn imports(module: &str, text: &str, modules: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    let mut rest = code.as_str();
    while let Some(start) =
        ["crate::", "super::", "self::"].iter().filter_map(|root| rest.find(root)).min()
    {
        let end =
            rest[start..].find([';', '(', ')', ' ', '<', '>', '\n']).unwrap_or(rest.len() - start);
        let statement = if rest[start..start + end].contains('{') {
            &rest[start..start + rest[start..].find(';').unwrap_or(rest.len() - start)]
        } else {
            &rest[start..start + end]
        };
        expand("", statement, &mut paths);
        rest = &rest[start + statement.len().max(1)..];
    }
    paths
        .iter()
        .filter_map(|path| resolve(module, path, modules))
        .filter(|used| used != module)
        .collect()
}

/// Flattens a use tree: `a::{b, c::{d, self}}` becomes `a::b`, `a::c::d` and `a::c`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim().trim_end_matches("::self");
        paths.push(format!("{prefix}{path}"));
        return;
    };
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let member = inner[start..at].trim();
                if !member.is_empty() {
                    expand(&prefix, member, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The module with a file of its own that a path leads into; none for other crates.
fn resolve(module: &str, path: &str, modules: &BTreeMap<String, PathBuf>) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts: Vec<&str> = path.split("::").collect();
    match parts.first().copied()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while parts.get(1) == Some(&"super") {
                parts.remove(0);
                base.pop();
            }
        }
        _ => return None,
    }
    base.extend(parts.into_iter().skip(1).filter(|part| *part != "self"));
    (1..=base.len()).rev().map(|n| base[..n].join("::")).find(|name| modules.contains_key(name))
}

/// Groups of modules that reach each other (strongly connected components of two or more).
fn cycles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|start| {
            let (mut seen, mut todo) = (BTreeSet::new(), vec![start]);
            while let Some(next) = todo.pop() {
                todo.extend(graph.get(next).into_iter().flatten().filter(|to| seen.insert(*to)));
            }
            (start, seen)
        })
        .collect();
    let mut groups: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, reached) in &reach {
        let group: Vec<String> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(*module)))
            .map(|other| (*other).clone())
            .collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
