//! The Unix socket: its path, its permissions, and its removal when the process exits.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::config::settings::ControlSocket;
use crate::control_protocol::place::{CONTROL_SOCKET, RUNTIME_FOLDER, runtime_directory};

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

/// Binds the configured socket, if there is one. `auto` is [`CONTROL_SOCKET`] in the runtime directory that
/// systemd created for the unit (systemd.exec(5), `RuntimeDirectory=`), or else in [`RUNTIME_FOLDER`]; if that
/// fails, there is no socket, which is logged.
pub(super) fn bind(
    settings: &ControlSocket,
    is_successor: bool,
) -> Result<Option<ControlListener>, SocketError> {
    match settings {
        ControlSocket::Off => Ok(None),
        ControlSocket::At(path) => ControlListener::bind(path, is_successor).map(Some),
        ControlSocket::Auto => match runtime_directory() {
            Some(folder) => {
                ControlListener::bind(&folder.join(CONTROL_SOCKET), is_successor).map(Some)
            }
            None => Ok(bind_without_directory(Path::new(RUNTIME_FOLDER), is_successor)),
        },
    }
}

/// Binds in a folder that the service manager did not prepare: only in one of this user, as the owner of a
/// folder may replace what is in it. The configuration does not ask for the socket, so that a failure is no
/// reason to exit.
fn bind_without_directory(folder: &Path, is_successor: bool) -> Option<ControlListener> {
    let path = folder.join(CONTROL_SOCKET);
    let prepared = own_folder(folder).map_err(|source| SocketError::new(&path, source));
    match prepared.and_then(|()| ControlListener::bind(&path, is_successor)) {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!(
                %error,
                "no control socket, so tidegate ctl cannot reach this process: set control.socket to a \
                 path, or $RUNTIME_DIRECTORY to a folder"
            );
            None
        }
    }
}

/// Creates the folder with the mode of the shipped unit, unless it exists and belongs to this user.
fn own_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    let found = fs::symlink_metadata(folder)?;
    match found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::other("the folder belongs to another user")),
    }
}

impl SocketError {
    fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.display().to_string(), source }
    }
}

impl ControlListener {
    /// Binds next to the path. The file gets its permissions before it is reachable under its final
    /// name, and a predecessor can answer there until [`ControlListener::publish`].
    fn bind(path: &Path, is_successor: bool) -> Result<Self, SocketError> {
        let error = |source| SocketError::new(path, source);
        if fs::symlink_metadata(path).is_ok_and(|found| !is_socket(&found)) {
            return Err(error(io::Error::other("a file that is not a socket exists there")));
        }
        let is_other = match listening(path) {
            None => false,
            // The parent process is the predecessor.
            Some(Some(pid)) if is_successor => Some(pid) != rustix::process::getppid(),
            Some(_) => !is_successor,
        };
        if is_other {
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
        let error = |source| SocketError::new(&self.path, source);
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

/// The process that is listening at a path, if any, and unless its backlog is full. Does not block.
fn listening(path: &Path) -> Option<Option<Pid>> {
    let connected = SockAddr::unix(path).and_then(|address| {
        let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        probe.connect(&address)?;
        Ok(probe)
    });
    match connected {
        Ok(probe) => Some(socket_peercred(&probe).ok().map(|peer| peer.pid)),
        Err(error) => (error.kind() == io::ErrorKind::WouldBlock).then_some(None),
    }
}

fn is_socket(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type())
}

const RETRY_DELAY: Duration = Duration::from_millis(500);
