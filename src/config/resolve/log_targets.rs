//! Whether records may go into the file that is named for them: never into the configuration, a
//! certificate or a key, by whatever name, and into nothing that is no regular file.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::settings::{AccessTarget, CertificateSource, Settings};
use crate::config::toml::late_diagnostic::LateDiagnostic;

impl Settings {
    /// Why records could not be written to their file, as far as that shows without opening it: to
    /// open it would make it, or wait for whoever reads a pipe.
    pub fn records_refused(&self) -> Option<LateDiagnostic> {
        let AccessTarget::File(path) = &self.access.to else {
            return None;
        };
        let shown = path.display();
        let problem = match fs::metadata(path) {
            Ok(found) => format!("{shown} {}", self.not_for_records(&found)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| *folder != Path::new(""));
                let folder = folder.unwrap_or(Path::new("."));
                match fs::metadata(folder) {
                    Ok(found) if is_of_kernel(&found) => format!("{shown} {OF_KERNEL}"),
                    Ok(found) if found.is_dir() => return None,
                    Ok(_) | Err(_) => format!(
                        "there is no folder {} to write it into: make it, or let systemd do so \
                         (LogsDirectory= in the unit)",
                        folder.display()
                    ),
                }
            }
            Err(error) => format!("{shown} cannot be looked at: {error}"),
        };
        Some(LateDiagnostic { key: "access.to".to_owned(), problem })
    }

    /// Why records may not go into this file, whatever its name, and what to do.
    pub fn not_for_records(&self, found: &Metadata) -> Option<String> {
        if found.is_dir() {
            return Some("is a folder: name the file in it".to_owned());
        }
        if !found.is_file() {
            let what = "is a pipe, socket or device: name a file, or write \"stderr\"";
            return Some(what.to_owned());
        }
        if is_of_kernel(found) {
            return Some(OF_KERNEL.to_owned());
        }
        let owner = self.owner_of(found)?;
        Some(format!("is {owner}, and records would be written into it: name another file"))
    }

    /// What this file is already.
    fn owner_of(&self, found: &Metadata) -> Option<String> {
        // A link has another name, and the same number.
        let same = |path: &Path| {
            fs::metadata(path)
                .is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
        };
        if self.file.as_deref().is_some_and(same) {
            return Some("this configuration".to_owned());
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

/// Whether it is in `/proc` or `/sys`, where there are files that keep nothing.
fn is_of_kernel(found: &Metadata) -> bool {
    let device = |path: &str| fs::metadata(path).ok().map(|found| found.dev());
    let here = Some(found.dev());
    // Where they are not mounted they are folders like others.
    here != device("/") && ["/proc", "/sys"].into_iter().any(|root| here == device(root))
}

const OF_KERNEL: &str = "is the kernel's, and keeps nothing: name another file";
