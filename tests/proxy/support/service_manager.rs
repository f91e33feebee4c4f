//! A service manager that only receives notifications (sd_notify(3)).

use std::path::PathBuf;

use tokio::net::UnixDatagram;

use super::{TempDir, within_timeout};

/// A notification socket in its own folder.
pub struct ServiceManager {
    _folder: TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

impl ServiceManager {
    /// Binds the socket.
    pub fn new() -> Self {
        let folder = TempDir::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { _folder: folder, path, socket }
    }

    /// The environment variable that names the socket.
    pub fn environment(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// Waits for the next notification.
    pub async fn next_message(&self) -> String {
        let mut message = vec![0; 4096];
        let length =
            within_timeout("a notification", self.socket.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The next notification, if one has already arrived.
    pub fn try_next_message(&self) -> Option<String> {
        let mut message = vec![0; 4096];
        let length = self.socket.try_recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    /// Waits for a notification that contains this line.
    pub async fn message_with_line(&self, line: &str) -> String {
        let heard = async {
            loop {
                let message = self.next_message().await;
                if message.lines().any(|found| found == line) {
                    return message;
                }
            }
        };
        within_timeout(line, heard).await
    }
}
