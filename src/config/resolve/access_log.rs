//! Checks the file of the access log. It must not be the configuration, a certificate, a key
//! or a file of proxy addresses under any name, and it must be a regular file.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::settings::{AccessTarget, CertificateSource, Settings};
use crate::config::toml::late_diagnostic::LateDiagnostic;

impl Settings {
    /// Why access records could not be written to their file, as far as this can be determined
    /// without opening it. Opening would create the file, or block on a pipe.
    pub fn check_access_log_target(&self) -> Option<LateDiagnostic> {
        let AccessTarget::File(path) = &self.access.to else {
            return None;
        };
        let shown = path.display();
        let problem = match fs::metadata(path) {
            Ok(found) => format!("{shown} {}", self.access_log_target_problem(&found)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let dir = path.parent().filter(|dir| *dir != Path::new(""));
                let dir = dir.unwrap_or(Path::new("."));
                match fs::metadata(dir) {
                    Ok(found) if is_kernel_file(&found) => format!("{shown} {KERNEL_FILE}"),
                    Ok(found) if found.is_dir() => return None,
                    Ok(_) | Err(_) => format!(
                        "there is no directory {}: create it, or let systemd create it \
                         (LogsDirectory= in the unit)",
                        dir.display()
                    ),
                }
            }
            Err(error) => format!("{shown} cannot be checked: {error}"),
        };
        Some(LateDiagnostic { key: "access.to".to_owned(), problem })
    }

    /// Why access records must not be written to this file, and what to do. `None` if they may be.
    pub fn access_log_target_problem(&self, found: &Metadata) -> Option<String> {
        if found.is_dir() {
            return Some("is a directory: name the file in it".to_owned());
        }
        if !found.is_file() {
            let what = "is a pipe, socket or device: name a file, or write \"stderr\"";
            return Some(what.to_owned());
        }
        if is_kernel_file(found) {
            return Some(KERNEL_FILE.to_owned());
        }
        let used_as = self.configured_use(found)?;
        Some(format!(
            "is already used as {used_as}; access records would be appended to it: name another file"
        ))
    }

    /// What this file is already used as: a key, or the configuration file.
    fn configured_use(&self, found: &Metadata) -> Option<String> {
        // A link has a different name, but the same inode.
        let same = |path: &Path| {
            fs::metadata(path)
                .is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
        };
        if self.file.as_deref().is_some_and(same) {
            return Some("the configuration file".to_owned());
        }
        let files = &self.trusted_proxies.files;
        if let Some(index) = files.iter().position(|path| same(path)) {
            return Some(format!("trusted_proxies.address_files[{index}]"));
        }
        self.certificates.iter().enumerate().find_map(|(index, certificate)| {
            let CertificateSource::Files { chain, key } = &certificate.source else {
                return None;
            };
            let named = [(chain, "chain"), (key, "key")];
            let (_, name) = named.into_iter().find(|(path, _)| same(path))?;
            Some(format!("certificate[{index}].{name}"))
        })
    }
}

/// Whether the file is in `/proc` or `/sys`, where files do not store data.
fn is_kernel_file(found: &Metadata) -> bool {
    let device = |path: &str| fs::metadata(path).ok().map(|found| found.dev());
    let here = Some(found.dev());
    // If they are not mounted, they are ordinary directories.
    here != device("/") && ["/proc", "/sys"].into_iter().any(|root| here == device(root))
}

const KERNEL_FILE: &str = "is a kernel file that stores nothing: name another file";
