//! The socket itself: whose it is, who may come, and that it is gone with the process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::config::settings::ControlSocket;

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot take orders at {path}: {source} (control.socket)")]
pub struct SocketError {
    path: String,
    source: io::Error,
}

/// A socket beside its path, then at it; taken away when dropped, unless it is another's by then.
#[derive(Debug)]
pub(super) struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
    beside: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// Where it is to be. `auto` is in the directory that systemd made for the unit (systemd.exec(5)).
pub fn place(settings: &ControlSocket) -> Option<PathBuf> {
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
    /// Made beside its path, so that it is never open to others, and that whoever takes orders there
    /// goes on until [`ControlListener::settle`].
    pub(super) fn bind(path: &Path, is_successor: bool) -> Result<Self, SocketError> {
        let fault = |source| SocketError { path: path.display().to_string(), source };
        if fs::symlink_metadata(path).is_ok_and(|there| !is_socket(&there)) {
            return Err(fault(io::Error::other("there is a file of this name already")));
        }
        if !is_successor && somebody_listens(path) {
            return Err(fault(io::Error::other("another process takes orders there")));
        }
        sweep(path);
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(fault)?;
        let made = fs::set_permissions(&beside, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&beside));
        let id = made.map(|there| (there.dev(), there.ino())).map_err(|error| {
            let _ = fs::remove_file(&beside);
            fault(error)
        })?;
        Ok(Self { listener, path: path.to_owned(), beside, id })
    }

    /// Where orders are given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its path: what a dead process left there, or a living one that hands over, is
    /// replaced in one step.
    pub(super) fn settle(&self) -> Result<(), SocketError> {
        let fault = |source| SocketError { path: self.path.display().to_string(), source };
        fs::rename(&self.beside, &self.path).map_err(fault)
    }

    /// Whoever comes next; the socket never ends by an error.
    pub(super) async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    warn!(%error, "control: accepting pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        for path in [&self.path, &self.beside] {
            let there = fs::symlink_metadata(path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == self.id) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The user who may not give orders, if this is one: the mode of the file keeps others out, and so
/// does this, should somebody change it (SO_PEERCRED, unix(7)).
pub(super) fn deny(stream: &UnixStream) -> Option<u32> {
    let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
    let ours = rustix::process::geteuid().as_raw();
    (uid != 0 && uid != ours).then_some(uid)
}

/// Takes away what processes left that ended between the two steps.
fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let left = entry.file_name();
        let pid = left.to_str().and_then(|left| left.strip_prefix(name)?.strip_prefix('.'));
        let dead = pid.is_some_and(|pid| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if dead && entry.metadata().is_ok_and(|there| is_socket(&there)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Without waiting: one that is too busy is there, too.
fn somebody_listens(path: &Path) -> bool {
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

fn is_socket(there: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&there.file_type())
}

const PAUSE: Duration = Duration::from_millis(500);
