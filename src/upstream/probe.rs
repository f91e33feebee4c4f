//! Probing a backend that is down: a TCP connection without a request.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connect::Connector;
use super::pool::Backend;
use crate::client::{ClientAddr, ClientKey, KeyPrefixes};
use crate::net::network::Net;
use crate::net::socket::Socket;

/// Tries to connect to a backend within `limit`, which records the result in its health, and sends
/// `proxy_header` (a PROXY header or nothing).
pub async fn probe(net: &dyn Net, backend: Arc<Backend>, proxy_header: Vec<u8>, limit: Duration) {
    // The addresses of a name are tried in some order; one that accepts is enough.
    let no_client = ClientAddr::without_port(Ipv4Addr::UNSPECIFIED.into());
    let key = ClientKey::new(&no_client, KeyPrefixes::default());
    let order = vec![backend];
    let connector = Connector { net, order, key, proxy_header, limit };
    if let Ok((stream, _)) = connector.connect().await {
        // The backend has accepted; how it ends the connection does not matter.
        let _ = timeout(CLOSE_TIMEOUT, close(stream)).await;
    }
}

/// Closes a connection without a reset, which many servers log: sends the FIN, and reads what the backend
/// has sent, because dropping a socket with unread data resets it.
async fn close(mut stream: Socket) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// How long a backend may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
