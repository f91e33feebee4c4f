//! The Unix socket: its path, its permissions, and its removal when the process exits.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::config::settings::ControlSocket;

/// The control socket cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the control socket {path}: {source} (control.socket)")]
pub struct SocketError {
    path: String,
    source: io::Error,
}

/// A listening Unix socket. It is bound under a temporary name and then moved to its path. Dropping
/// it removes the file, unless another process has replaced it.
#[derive(Debug)]
pub(super) struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
    temporary: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Returns the configured path. `auto` is `control.sock` in the runtime directory that systemd
/// created for the unit (systemd.exec(5), `RuntimeDirectory=`); `None` without one.
pub fn path(settings: &ControlSocket) -> Option<PathBuf> {
    match settings {
        ControlSocket::Off => None,
        ControlSocket::At(path) => Some(path.clone()),
        ControlSocket::Auto => {
            let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
            let first = std::env::split_paths(&directories).next()?;
            first.is_absolute().then(|| first.join("control.sock"))
        }
    }
}

impl ControlListener {
    /// Binds next to the path. The file gets its permissions before it is reachable under its final
    /// name, and a predecessor can answer there until [`ControlListener::publish`].
    pub(super) fn bind(path: &Path, is_successor: bool) -> Result<Self, SocketError> {
        let error = |source| SocketError { path: path.display().to_string(), source };
        if fs::symlink_metadata(path).is_ok_and(|found| !is_socket(&found)) {
            return Err(error(io::Error::other("a file that is not a socket exists there")));
        }
        if !is_successor && is_listening(path) {
            return Err(error(io::Error::other("another process is listening there")));
        }
        remove_stale(path);
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary).map_err(error)?;
        let metadata = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&temporary));
        let id = metadata.map(|found| (found.dev(), found.ino())).map_err(|source| {
            let _ = fs::remove_file(&temporary);
            error(source)
        })?;
        Ok(Self { listener, path: path.to_owned(), temporary, id })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the socket to its path. The socket of a dead process or of the predecessor is replaced
    /// atomically.
    pub(super) fn publish(&self) -> Result<(), SocketError> {
        let error = |source| SocketError { path: self.path.display().to_string(), source };
        fs::rename(&self.temporary, &self.path).map_err(error)
    }

    /// Waits for the next connection; retries after errors.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    warn!(%error, "control: accept failed; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        for path in [&self.path, &self.temporary] {
            let found = fs::symlink_metadata(path);
            if found.is_ok_and(|found| (found.dev(), found.ino()) == self.id) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Returns the peer's user id if it may not send commands. The file mode already excludes other
/// users; this check (SO_PEERCRED, unix(7)) holds even if the mode is changed.
pub(super) fn denied_uid(stream: &UnixStream) -> Option<u32> {
    let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
    let own = rustix::process::geteuid().as_raw();
    (uid != 0 && uid != own).then_some(uid)
}

/// Removes temporary sockets of processes that exited between binding and publishing.
fn remove_stale(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let pid = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('.'));
        let is_dead = pid.is_some_and(|pid| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if is_dead && entry.metadata().is_ok_and(|found| is_socket(&found)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Probes without blocking. A full backlog also means that a process is listening.
fn is_listening(path: &Path) -> bool {
    let connected = SockAddr::unix(path).and_then(|address| {
        let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        probe.connect(&address)
    });
    match connected {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn is_socket(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

const RETRY_DELAY: Duration = Duration::from_millis(500);
