//! The file with the keys of pin cookies. Machines that share it accept each other's cookies.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::config::toml::diagnostic::Problem;
use crate::config::toml::source;

/// One key, or two during a rotation: the first one signs, both are accepted.
#[derive(Clone)]
pub struct PinKeys(Vec<Key>);

impl PinKeys {
    /// Reads a file with one key per line.
    ///
    /// # Errors
    /// The file cannot be read, other users of the machine may read or write it, or it has no key, more than
    /// two, or one that is no hexadecimal number of 32 to 64 bytes.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let bytes = source::read(path, FILE_BYTES_MAX)?;
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777);
        if mode & 0o037 != 0 {
            let problem = format!("other users may read or change this key (mode {mode:04o})");
            return Err(
                Problem::new(problem).help("set mode 0600, or 0640 and the group of tidegate")
            );
        }
        let text = std::str::from_utf8(&bytes).ok().filter(|_| bytes.len() <= FILE_BYTES_MAX);
        let lines = text.ok_or_else(invalid)?.lines().map(str::trim);
        let keys =
            lines.filter(|line| !line.is_empty()).map(parse).collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(Problem::new("there is no key in this file").help(GENERATE)),
            1 | KEYS_MAX => Ok(Self(keys)),
            count => Err(Problem::new(format!("{count} keys; two are enough for a rotation"))
                .help("keep the one that signs in the first line, and the one that replaces it or that it replaced")),
        }
    }

    /// The tag of a text under each key, the one that signs first.
    pub fn tags(&self, text: &[u8]) -> impl Iterator<Item = Tag> {
        self.0.iter().map(|key| sign(key, text))
    }
}

/// Shows no key.
impl fmt::Debug for PinKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinKeys").field(&self.0.len()).finish()
    }
}

fn parse(line: &str) -> Result<Key, Problem> {
    let bytes = HEXLOWER_PERMISSIVE.decode(line.as_bytes()).map_err(|_| invalid())?;
    if !KEY_BYTES.contains(&bytes.len()) {
        let problem = format!("a key of {} bytes; 32 to 64 are required", bytes.len());
        return Err(Problem::new(problem).help(GENERATE));
    }
    Ok(Key::new(HMAC_SHA256, &bytes))
}

fn invalid() -> Problem {
    Problem::new("a line is no hexadecimal number").help(GENERATE)
}

const GENERATE: &str = "create one with `umask 077; openssl rand -hex 32 > FILE`";
/// Bytes of a key: as many as a tag has, and at most a block (RFC 2104 3).
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;
const KEYS_MAX: usize = 2;
/// Two keys of 64 bytes, and room for blank lines.
const FILE_BYTES_MAX: usize = 1024;

#[cfg(test)]
impl PinKeys {
    /// Keys that consist of one byte each, for tests.
    pub fn sample(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| Key::new(HMAC_SHA256, &[*byte; 32])).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// A file that is removed with this value.
    struct KeyFile(PathBuf);

    impl KeyFile {
        fn new(text: &str, mode: u32) -> Self {
            let name = format!("tidegate-pin-{}-{:p}", std::process::id(), text);
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Self(path)
        }
    }

    impl Drop for KeyFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn problem(text: &str, mode: u32) -> String {
        PinKeys::load(&KeyFile::new(text, mode).0).unwrap_err().to_string()
    }

    #[test]
    fn one_or_two_keys_are_read() {
        let [one, other] = ["01".repeat(32), "Fe".repeat(64)];
        let load = |text: &str| PinKeys::load(&KeyFile::new(text, 0o640).0).unwrap();
        let tag = |keys: &PinKeys| keys.tags(b"a").next().unwrap().as_ref().to_vec();
        let single = load(&format!("{one}\n"));
        assert_eq!(tag(&single), tag(&PinKeys::sample(&[1])));
        let both = load(&format!("\n{other}\r\n {one} \n"));
        assert_eq!(both.tags(b"a").count(), 2);
        assert_eq!(both.tags(b"a").nth(1).unwrap().as_ref(), tag(&single));
        assert_eq!(format!("{both:?}"), "PinKeys(2)");
    }

    #[test]
    fn unusable_files_are_reported() {
        let key = "01".repeat(32);
        for mode in [0o604, 0o602, 0o620, 0o666, 0o644] {
            assert!(problem(&key, mode).contains(&format!("(mode {mode:04o})")), "{mode:o}");
        }
        for (text, part) in [
            ("", "there is no key"),
            ("\n \n", "there is no key"),
            ("0123", "a key of 2 bytes"),
            (&"01".repeat(65), "a key of 65 bytes"),
            ("not hexadecimal", "no hexadecimal number"),
            (&"0".repeat(2_000), "no hexadecimal number"),
            (&format!("{key}\n{key}\n{key}\n"), "3 keys"),
        ] {
            assert!(problem(text, 0o600).contains(part), "{text}: {}", problem(text, 0o600));
        }
        assert!(PinKeys::load(Path::new("/nowhere/pin.key")).is_err());
        assert!(PinKeys::load(&std::env::temp_dir()).is_err());
    }
}
