//! Detects that a file was changed or replaced, without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies the content of a file at one point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
}

impl FileIdentity {
    /// The current identity of the file, through symbolic links; `None` if there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// When its content was changed, in seconds and nanoseconds since 1970, and its length.
    pub fn version(&self) -> String {
        let (seconds, nanos) = self.modified;
        format!("{seconds}.{nanos:09}/{}", self.bytes)
    }
}
