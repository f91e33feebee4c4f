//! The end of the connection of a probe.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::net::socket::Socket;

/// Closes a connection without a reset, which many servers log: sends the FIN, and reads what the backend
/// has sent, because dropping a socket with unread data resets it.
pub(super) async fn close(mut stream: Socket) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
