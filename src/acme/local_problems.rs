//! What on this machine would keep every order from succeeding. They are warnings: certificates that are stored serve
//! nevertheless.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::settings::Settings;
use crate::config::toml::late_diagnostic::LateDiagnostic;

/// A warning for each file of `[acme]` that cannot be used by this process. Changes nothing. May block.
pub fn local_problems(settings: &Settings) -> Vec<LateDiagnostic> {
    let Some(acme) = &settings.acme else { return Vec::new() };
    let mut found = Vec::new();
    let mut warn = |key: &str, problem: String| {
        // A key that has its default value is not in the file.
        let key = format!("acme.{key}");
        found.push(match settings.source_map.line(&key) {
            Some(_) => LateDiagnostic { key, problem },
            None => LateDiagnostic { key: "acme".to_owned(), problem: format!("{key}: {problem}") },
        });
    };
    if let Some(hook) = &acme.dns_hook
        && let Some(problem) = not_executable(hook)
    {
        warn("dns_hook", format!("{problem}, so {CONSEQUENCE}; {HOOK_HELP}"));
    }
    let eab = acme.external_account.as_ref().map(|of| &of.key_file);
    for (key, path) in [("ca", acme.ca.as_ref()), ("eab_key_file", eab)] {
        if let Some(path) = path
            && let Err(error) = access(path, Access::READ_OK)
        {
            let problem = format!("{}: cannot be read: {error}", path.display());
            warn(key, format!("{problem}, so {CONSEQUENCE}; correct the path or its permissions"));
        }
    }
    if let Some(problem) = not_writable(&acme.state_directory) {
        warn("state_directory", format!("{problem}, so {CONSEQUENCE}; {FOLDER_HELP}"));
    }
    found
}

/// Why a program cannot be executed.
fn not_executable(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.is_dir() {
        return Some(format!("{shown}: is a folder and not a program"));
    }
    let error = access(path, Access::EXEC_OK).err()?;
    Some(format!("{shown}: cannot be executed: {error}"))
}

/// Why the folders for certificates and accounts cannot be created or written to.
fn not_writable(state_directory: &Path) -> Option<String> {
    ["acme", "acme/certificates", "acme/accounts"].into_iter().find_map(|name| {
        let existing = deepest_existing(state_directory.join(name));
        let shown = existing.display();
        if !existing.is_dir() {
            return Some(format!("{shown}: is no folder"));
        }
        let error = access(&existing, Access::WRITE_OK | Access::EXEC_OK).err()?;
        Some(format!("{shown}: cannot be written to: {error}"))
    })
}

/// A path, or the first of its parents that exists.
fn deepest_existing(path: PathBuf) -> PathBuf {
    let found = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    found.map_or(path.clone(), Path::to_path_buf)
}

const CONSEQUENCE: &str = "no certificate can be ordered or renewed";
const HOOK_HELP: &str = "correct the path, or make the program executable (chmod +x; for the systemd unit, ExecPaths= in a drop-in)";
const FOLDER_HELP: &str = "give it to the user that runs tidegate, with mode 0700, or set state_directory to another folder";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let warnings = |keys: &str| {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n[acme]\naccept_terms = true\n{keys}\n\
                 [[route]]\nhost = \"a.example\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:9\"]\n"
            );
            local_problems(&Settings::parse(&text, "/nowhere/proxy.toml").unwrap())
        };
        let folder = std::env::temp_dir();
        let state =
            format!("state_directory = {:?}\n", folder.join("tidegate-missing/a").display());
        assert_eq!(warnings(&state), []);
        let under_file = "state_directory = \"/proc/self/status/x\"\n";
        for (keys, key, words) in [
            (
                under_file,
                "acme.state_directory",
                "/proc/self/status: is no folder, so no certificate",
            ),
            (
                &format!("{state}challenge = \"dns-01\"\ndns_hook = \"hook\"\n"),
                "acme.dns_hook",
                "/nowhere/hook: cannot be executed: No such file",
            ),
            (
                &format!("{state}challenge = \"dns-01\"\ndns_hook = \"/proc/self/status\"\n"),
                "acme.dns_hook",
                "/proc/self/status: cannot be executed: Permission denied",
            ),
            (
                &format!("{state}challenge = \"dns-01\"\ndns_hook = \"/proc\"\n"),
                "acme.dns_hook",
                "is a folder",
            ),
            (&format!("{state}ca = \"ca.pem\"\n"), "acme.ca", "/nowhere/ca.pem: cannot be read"),
        ] {
            let found = warnings(keys);
            assert_eq!((found.len(), &*found[0].key), (1, key), "{found:?}");
            assert!(found[0].problem.contains(words), "{found:?}");
        }
    }
}
