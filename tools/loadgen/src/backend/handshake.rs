//! The opening handshake of the backend: the path selects the endpoint.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::State;
use super::endpoint::{Endpoint, Source};
use crate::error::Error;
use crate::http::{Event, MessageReader, field};

/// Reads up to the end of the first request head. Returns this head, and everything that was read.
pub async fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>), Error> {
    let mut bytes = Vec::with_capacity(2 << 10);
    let mut reader = MessageReader::default();
    loop {
        let before = bytes.len();
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Error::new(
                "the client closed the connection before it sent a whole request head",
            ));
        }
        if let Some(Event::Head { text, .. }) = reader.next(&mut &bytes[before..])? {
            return Ok((text, bytes));
        }
    }
}

/// Answers the handshake and selects the endpoint.
pub async fn accept(stream: &mut TcpStream, head: &str, state: &State) -> Result<Endpoint, Error> {
    let Some(key) = field(head, "sec-websocket-key") else {
        stream.write_all(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await?;
        return Err(Error::new("the request is not a WebSocket handshake"));
    };
    let endpoint = endpoint(head, state)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(endpoint)
}

fn endpoint(head: &str, state: &State) -> Result<Endpoint, Error> {
    let (path, _) = path_and_query(head);
    Ok(match path {
        "/sink" => Endpoint::Sink(Box::default()),
        "/broadcast" => Endpoint::Broadcast(Vec::new()),
        "/source" => {
            let size = parameter(head, "size").unwrap_or(64 << 10).clamp(1, 16 << 20) as usize;
            let bytes = parameter(head, "bytes").unwrap_or(1 << 20);
            Endpoint::Source(Box::new(Source::new(state.pool(size)?, bytes)))
        }
        _ => Endpoint::Echo,
    })
}

/// A numeric parameter in the query of the request.
pub fn parameter(head: &str, name: &str) -> Option<u64> {
    let mut pairs = path_and_query(head).1.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
}

fn path_and_query(head: &str) -> (&str, &str) {
    let target = head.split(' ').nth(1).unwrap_or("/");
    target.split_once('?').unwrap_or((target, ""))
}
