//! Which protocol a connection without TLS begins with. Without ALPN, a client that knows that the server speaks
//! HTTP/2 just starts with its preface (RFC 9113 3.3).

use std::future::Future;
use std::time::Duration;

use tokio::select;
use tokio::time::timeout;

use crate::client::HttpProtocol;
use crate::net::socket::Socket;
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// Looks at the first bytes of a connection without consuming them. HTTP/1.1 if `drain` is ready before they
/// arrive.
///
/// # Errors
/// The client sent nothing, or only a part of the preface, within `limit`, or has disconnected.
pub async fn detect(
    io: &mut Socket,
    limit: Duration,
    drain: impl Future<Output = ()>,
) -> Result<HttpProtocol, DropReason> {
    let mut seen = 0;
    let detecting = async {
        select! {
            biased;
            found = look_ahead(io, &mut seen) => found,
            () = drain => Ok(HttpProtocol::Http1),
        }
    };
    match timeout(limit, detecting).await {
        Ok(found) => found,
        Err(_) if seen > 0 => Err(DropReason::HeadTimeout),
        Err(_) => Err(DropReason::NoRequest),
    }
}

/// Stores in `seen` how many bytes have arrived.
async fn look_ahead(io: &mut Socket, seen: &mut usize) -> Result<HttpProtocol, DropReason> {
    let disconnected = DropReason::ClientDisconnected(ConnectionStage::Head);
    let mut bytes = [0; METHOD.len()];
    let is_enough = |arrived: &[u8]| {
        *seen = arrived.len();
        arrived.len() == METHOD.len() || !METHOD.starts_with(arrived)
    };
    let Ok(len) = io.peek_until(&mut bytes, is_enough).await else { return Err(disconnected) };
    match &bytes[..len] {
        METHOD => Ok(HttpProtocol::Http2),
        part if METHOD.starts_with(part) => Err(disconnected),
        _ => Ok(HttpProtocol::Http1),
    }
}

/// The start of the preface: a method that no HTTP/1.1 request may have (RFC 9113 11.6).
const METHOD: &[u8] = b"PRI ";

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0.into(), far)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn preface_is_told_from_methods() {
        for (sent, expected) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], HttpProtocol::Http2),
            (b"GET / HTTP/1.1\r\n", HttpProtocol::Http1),
            (b"POST / HTTP/1.1\r\n", HttpProtocol::Http1),
            (b"PROPFIND / HTTP/1.1\r\n", HttpProtocol::Http1),
            (b"\x16\x03\x01", HttpProtocol::Http1),
        ] {
            let (mut near, mut far) = connected().await;
            far.write_all(&sent[..1]).await.unwrap();
            let detecting = detect(&mut near, LONG, pending());
            let (found, written) = tokio::join!(detecting, far.write_all(&sent[1..]));
            written.unwrap();
            assert_eq!(found, Ok(expected));
        }
    }

    #[tokio::test]
    async fn silence_and_disconnection_have_names() {
        let short = Duration::from_millis(50);
        let (mut near, mut far) = connected().await;
        assert_eq!(detect(&mut near, short, pending()).await, Err(DropReason::NoRequest));
        assert_eq!(detect(&mut near, LONG, async {}).await, Ok(HttpProtocol::Http1));
        far.write_all(b"PR").await.unwrap();
        assert_eq!(detect(&mut near, short, pending()).await, Err(DropReason::HeadTimeout));
        for sent in [b"", &b"PRI"[..]] {
            let (mut near, mut far) = connected().await;
            far.write_all(sent).await.unwrap();
            drop(far);
            let expected = DropReason::ClientDisconnected(ConnectionStage::Head);
            assert_eq!(detect(&mut near, LONG, pending()).await, Err(expected));
        }
    }
}
