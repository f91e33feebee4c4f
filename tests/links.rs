//! Follows every link between the documents: in the source tree, in the Debian package as `Cargo.toml`
//! describes it, and in the directory `TIDEGATE_DOCS`, if it is set.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn links_in_the_source_tree_lead_somewhere() {
    let files = documents(Path::new(ROOT));
    let dead = dead_links(&files, |path| Path::new(ROOT).join(path).exists());
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(files.len() > 20, "{:?}", files.keys());
}

#[test]
fn links_in_the_package_lead_somewhere() {
    let package = package();
    let is_document =
        |(to, _): &(&PathBuf, &PathBuf)| to.extension().is_some_and(|end| end == "md");
    let read = |(to, from): (&PathBuf, &PathBuf)| (to.clone(), fs::read_to_string(from).unwrap());
    let files: BTreeMap<PathBuf, String> = package.iter().filter(is_document).map(read).collect();
    let paths: BTreeSet<&Path> = package.keys().flat_map(|path| path.ancestors()).collect();
    let dead = dead_links(&files, |path| paths.contains(path));
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(files.len() > 10, "{:?}", files.keys());
}

#[test]
fn links_in_an_unpacked_package_lead_somewhere() {
    let Some(root) = env::var_os("TIDEGATE_DOCS").map(PathBuf::from) else { return };
    let files = documents(&root);
    let dead = dead_links(&files, |path| root.join(path).exists());
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(files.len() > 10, "{:?}", files.keys());
}

#[test]
fn dead_links_are_found() {
    let text = "[a](b.md) [b](c.md#two-words) [c](#here) [d](../x) [e](https://x.example/) \
                `[f](no.md)`\n```\n[g](no.md)\n```\n# Here\n";
    let files = [("d/a.md", text), ("d/c.md", "# Two `words`!\n")];
    let files = files.map(|(path, text)| (PathBuf::from(path), text.to_owned())).into();
    assert_eq!(
        dead_links(&files, |path| path == Path::new("d/c.md")),
        ["d/a.md: b.md", "d/a.md: ../x"]
    );
    assert_eq!(dead_links(&files, |_| true), [] as [String; 0]);
    let files = [(PathBuf::from("a.md"), "[a](#there)\n# Here\n".to_owned())].into();
    assert_eq!(dead_links(&files, |_| true), ["a.md: #there"]);
}

/// The links that lead to no file, or to no heading of a document.
fn dead_links(files: &BTreeMap<PathBuf, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    for (file, text) in files {
        for link in links(text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                path => normal(&file.parent().unwrap().join(path)),
            };
            let has_anchor = |text: &String| anchors(text).contains(anchor);
            let anchor_exists = anchor.is_empty() || files.get(&target).is_none_or(has_anchor);
            if !(path.is_empty() || exists(&target)) || !anchor_exists {
                dead.push(format!("{}: {link}", file.display()));
            }
        }
    }
    dead
}

/// The targets of links in Markdown, those to other sites and those in code left out.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        // Odd parts are code.
        let line: String = line.split('`').step_by(2).collect();
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap();
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// The anchors that headings have on the usual sites.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The lines outside blocks of code.
fn prose(text: &str) -> Vec<&str> {
    let blocks = text.split("```").step_by(2);
    blocks.flat_map(str::lines).collect()
}

/// The documents below a directory, by their path in it.
fn documents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            let is_source = !name.starts_with('.') && name != "target" && name != "node_modules";
            if entry.is_dir() && is_source {
                folders.push(entry);
            } else if name.ends_with(".md") {
                let path = entry.strip_prefix(root).unwrap().to_owned();
                found.insert(path, fs::read_to_string(&entry).unwrap());
            }
        }
    }
    found
}

/// The files of the Debian package that are in the source tree: path in the package, path of the source.
fn package() -> BTreeMap<PathBuf, PathBuf> {
    let text = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let mut files = BTreeMap::new();
    for asset in assets {
        let [from, to] = [0, 1].map(|index| asset[index].as_str().unwrap());
        if from.starts_with("target/") {
            continue;
        }
        for source in matching(from) {
            let name = source.file_name().unwrap();
            let path = if to.ends_with('/') { Path::new(to).join(name) } else { to.into() };
            files.insert(path, source);
        }
    }
    files
}

/// The files that a pattern such as `docs/*.md` names.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(ROOT).join(pattern);
    let name = path.file_name().unwrap().to_str().unwrap();
    let Some(end) = name.strip_prefix('*') else { return vec![path.clone()] };
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.to_str().unwrap().ends_with(end)).collect()
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}
