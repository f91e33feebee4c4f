//! Names the commit, rustls and the crypto library in `tidegate --version`. Runs no program and needs no
//! git: it reads `Cargo.lock` and the files of `.git`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-env-changed={COMMIT}");
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let libraries = ["rustls", "aws-lc-rs"].map(|name| match version(&lock, name) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    });
    let commit = match env::var(COMMIT) {
        Ok(given) if !given.is_empty() => format!("commit {given}"),
        // Every commit would compile everything again, with all tests.
        _ if env::var("PROFILE").as_deref() != Ok("release") => "development build".to_owned(),
        _ => match commit(&root) {
            Some(commit) => format!("commit {commit}"),
            None => "commit unknown".to_owned(),
        },
    };
    println!("cargo:rustc-env=TIDEGATE_BUILD={commit}, {}", libraries.join(", "));
}

/// The version of a package in a lock file.
fn version<'l>(lock: &'l str, name: &str) -> Option<&'l str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

/// The commit that is checked out, shortened; `None` without a repository.
fn commit(root: &Path) -> Option<String> {
    let dot_git = root.join(".git");
    // In a linked work tree this is a file that names the directory.
    let git = match fs::read_to_string(&dot_git) {
        Ok(file) => root.join(file.strip_prefix("gitdir:")?.trim()),
        Err(_) => dot_git,
    };
    let common = match fs::read_to_string(git.join("commondir")) {
        Ok(file) => git.join(file.trim()),
        Err(_) => git.clone(),
    };
    // The log of HEAD grows with each commit and checkout. A file that does not exist would run this
    // script each time.
    for file in [git.join("HEAD"), git.join("logs/HEAD")].iter().filter(|file| file.exists()) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let id = match head.trim().strip_prefix("ref: ") {
        None => head,
        Some(name) => match fs::read_to_string(common.join(name)) {
            Ok(id) => id,
            Err(_) => packed(&fs::read_to_string(common.join("packed-refs")).ok()?, name)?,
        },
    };
    id.trim().get(..COMMIT_DIGITS).map(str::to_owned)
}

/// The id of a reference in `packed-refs`, whose lines are `ID NAME`.
fn packed(refs: &str, name: &str) -> Option<String> {
    refs.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ')).map(str::to_owned)
}

/// Set by those who build without a repository, such as distributions.
const COMMIT: &str = "TIDEGATE_COMMIT";
const COMMIT_DIGITS: usize = 12;
