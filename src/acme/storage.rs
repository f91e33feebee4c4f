//! The files in the state directory: written completely or not at all, and readable only by their owner. All
//! functions may block.
//!
//! ```text
//! acme/lock                                 held while something is ordered
//! acme/accounts/HOST/account.key            the key of the account, in PKCS #8
//! acme/accounts/HOST/account.json           its URL
//! acme/certificates/NAME/chain.pem, key.pem the certificate in use
//! acme/certificates/NAME/state.json         the order, failures, renewal times
//! acme/certificates/NAME/key.pem.new        the key of an order that is not finished
//! acme/certificates/NAME/chain.pem.new      an issued chain that is about to be used
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hyper::Uri;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::AcmeFailure;

/// The folder `acme` in the state directory.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

/// Held while something is ordered; released when it is dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl StateFolder {
    /// The folder in this state directory.
    pub fn new(state_directory: &Path) -> Self {
        Self(state_directory.join("acme"))
    }

    /// Takes the lock; `None` if another process has it.
    ///
    /// # Errors
    /// The folder cannot be created or written to.
    pub fn lock(&self) -> Result<Option<FolderLock>, AcmeFailure> {
        create_folder(&self.0)?;
        let path = self.0.join("lock");
        let file = private().create(true).truncate(false).open(&path);
        let file = file.map_err(|error| failed("open", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FolderLock { _file: file })),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(error) => Err(failed("lock", &path, &error.into())),
        }
    }

    /// The folder of the account at this directory.
    pub fn account(&self, directory: &str) -> PathBuf {
        let authority = directory.parse::<Uri>().ok().and_then(|url| url.into_parts().authority);
        let host = authority.map_or(String::new(), |authority| authority.to_string());
        self.0.join("accounts").join(host.replace('/', "_"))
    }
}

/// Reads a document; the default if there is no file.
///
/// # Errors
/// The file cannot be read. One that is not such a document counts as missing: it is written again.
pub fn read_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, AcmeFailure> {
    let bytes = read(path)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Writes a document, and the folder for it.
///
/// # Errors
/// It cannot be written; the previous one is unchanged.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<(), AcmeFailure> {
    let text = serde_json::to_string_pretty(document);
    let text = text.map_err(|error| AcmeFailure::directory(error.to_string()))?;
    write(path, text.as_bytes())
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, AcmeFailure> {
    match fs::metadata(path) {
        // A pipe would wait for a writer.
        Ok(found) if !found.is_file() => {
            return Err(failed("read", path, &io::Error::other("not a regular file")));
        }
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            let error = io::Error::other("larger than any file that tidegate writes");
            return Err(failed("read", path, &error));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, &error)),
    }
    fs::read(path).map(Some).map_err(|error| failed("read", path, &error))
}

/// Writes a file under another name, and then gives it its name. After a crash there is the old or the new one.
///
/// # Errors
/// It cannot be written; the previous one is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), AcmeFailure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = || -> io::Result<()> {
        let mut file = private().create(true).truncate(true).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        sync_folder(folder)
    };
    written().map_err(|error| {
        // A full disk is not filled further.
        let _ = fs::remove_file(&part);
        failed("write", path, &error)
    })
}

/// The file with the key of an order that is not finished.
pub fn new_key(folder: &Path) -> PathBuf {
    folder.join("key.pem.new")
}

/// Puts an issued chain and the key of its order in the place of those in use.
///
/// # Errors
/// A file cannot be written. The next [`finish_install`] completes what is possible.
pub fn install(folder: &Path, chain: &str) -> Result<(), AcmeFailure> {
    // Once this file is there, the certificate is the next one, whatever happens.
    write(&folder.join("chain.pem.new"), chain.as_bytes())?;
    finish_install(folder)
}

/// Completes an installation that was interrupted.
///
/// # Errors
/// A file cannot be renamed.
pub fn finish_install(folder: &Path) -> Result<(), AcmeFailure> {
    let chain = folder.join("chain.pem.new");
    if !chain.exists() {
        return Ok(());
    }
    // The key may have been renamed before.
    rename(&new_key(folder), "key.pem")?;
    rename(&chain, "chain.pem")?;
    sync_folder(folder).map_err(|error| failed("write", folder, &error))
}

/// Renames a file, if there is one.
///
/// # Errors
/// It cannot be renamed.
pub fn rename(path: &Path, name: &str) -> Result<(), AcmeFailure> {
    match fs::rename(path, path.with_file_name(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("rename", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn create_folder(folder: &Path) -> Result<(), AcmeFailure> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| failed("create", folder, &error))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes a rename survive a power failure.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other certificates would fail as well.
fn failed(what: &str, path: &Path, error: &io::Error) -> AcmeFailure {
    AcmeFailure::directory(format!(
        "cannot {what} {}: {error}; tidegate must be able to write to acme.state_directory",
        path.display()
    ))
}

const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::acme::record::CertRecord;

    struct TestFolder(PathBuf);

    impl TestFolder {
        fn new(name: &str) -> Self {
            let name = format!("tidegate-acme-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_can_read_what_is_written() {
        let test = TestFolder::new("modes");
        let path = test.0.join("acme/certificates/a.example/state.json");
        let record = CertRecord { issued_at: 7, ..CertRecord::default() };
        write_json(&path, &record).unwrap();
        assert_eq!(read_json::<CertRecord>(&path).unwrap(), record);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let files = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1);
    }

    #[test]
    fn damaged_and_missing_records_count_as_new() {
        let test = TestFolder::new("damaged");
        let path = test.0.join("state.json");
        assert_eq!(read_json::<CertRecord>(&path).unwrap(), CertRecord::default());
        for text in ["", "{", "[]", "{\"issued_at\": -1}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_json::<CertRecord>(&path).unwrap(), CertRecord::default(), "{text}");
        }
        fs::write(&path, "{\"issued_at\": 7, \"of_a_later_version\": {}}").unwrap();
        assert_eq!(read_json::<CertRecord>(&path).unwrap().issued_at, 7);
    }

    #[test]
    fn interrupted_installation_is_completed() {
        let test = TestFolder::new("install");
        let text = |name: &str| fs::read_to_string(test.0.join(name)).unwrap_or_default();
        let put = |files: &[(&str, &str)]| {
            for (name, text) in files {
                fs::write(test.0.join(name), text).unwrap();
            }
        };
        let both = || [text("chain.pem"), text("key.pem")];
        put(&[("chain.pem", "old"), ("key.pem", "old"), ("key.pem.new", "new")]);
        finish_install(&test.0).unwrap();
        assert_eq!(both(), ["old", "old"], "nothing was issued");
        install(&test.0, "new").unwrap();
        assert_eq!(both(), ["new", "new"]);
        // Killed between the two renames.
        put(&[("chain.pem.new", "newer"), ("key.pem", "newer")]);
        finish_install(&test.0).unwrap();
        assert_eq!(both(), ["newer", "newer"]);
        assert_eq!(fs::read_dir(&test.0).unwrap().count(), 2);
    }

    #[test]
    fn lock_is_held_by_one_owner() {
        let test = TestFolder::new("lock");
        let folder = StateFolder::new(&test.0);
        let held = folder.lock().unwrap();
        assert!(held.is_some());
        assert!(folder.lock().unwrap().is_none());
        drop(held);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn accounts_are_kept_by_host_and_port() {
        let folder = StateFolder::new(Path::new("/s"));
        for (url, expected) in [
            ("https://ca.example/a/directory", "/s/acme/accounts/ca.example"),
            ("https://127.0.0.1:14000/dir", "/s/acme/accounts/127.0.0.1:14000"),
        ] {
            assert_eq!(folder.account(url), Path::new(expected));
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = TestFolder::new("kinds");
        let path = folder.0.join("state.json");
        assert_eq!(read(&path), Ok(None));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let failure = read(&path).unwrap_err();
        assert!(failure.text.contains("state.json: not a regular file"), "{failure}");
    }
}
