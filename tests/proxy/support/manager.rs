//! A service manager that only listens (sd_notify(3)).

use std::path::PathBuf;

use tokio::net::UnixDatagram;

use super::{Folder, soon};

/// Its socket.
pub struct Manager {
    _folder: Folder,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    /// Listens.
    pub fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { _folder: folder, path, socket }
    }

    /// What the process needs to find it.
    pub fn environment(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// The next message.
    pub async fn told(&self) -> String {
        let mut message = vec![0; 4096];
        let length = soon("a notification", self.socket.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The next message, if there is one already.
    pub fn told_already(&self) -> Option<String> {
        let mut message = vec![0; 4096];
        let length = self.socket.try_recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    /// The next message that has this line.
    pub async fn told_of(&self, line: &str) -> String {
        let heard = async {
            loop {
                let message = self.told().await;
                if message.lines().any(|found| found == line) {
                    return message;
                }
            }
        };
        soon(line, heard).await
    }
}
