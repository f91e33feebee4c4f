//! The opening handshake of the backend: the path selects the endpoint.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::State;
use super::endpoint::{Endpoint, Source};
use crate::error::Error;

const HEAD_BYTES_MAX: usize = 16 << 10;

/// Reads the request and answers it. Returns the endpoint and the bytes after the request.
pub async fn accept(stream: &mut TcpStream, state: &State) -> Result<(Endpoint, Vec<u8>), Error> {
    let mut bytes = Vec::with_capacity(2 << 10);
    let end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Error::new(
                "the client closed the connection before it sent a whole request head",
            ));
        }
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(Error::new("the request head is longer than 16 KiB"));
        }
    };
    let rest = bytes.split_off(end);
    let text = String::from_utf8_lossy(&bytes);
    let target = text.split(' ').nth(1).unwrap_or("/");
    let Some(key) = field(&text, "sec-websocket-key") else {
        stream.write_all(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await?;
        return Err(Error::new("the request is not a WebSocket handshake"));
    };
    let endpoint = endpoint(target, state)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok((endpoint, rest))
}

fn endpoint(target: &str, state: &State) -> Result<Endpoint, Error> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    Ok(match path {
        "/sink" => Endpoint::Sink(Box::default()),
        "/broadcast" => Endpoint::Broadcast(Vec::new()),
        "/source" => {
            let size = number("size").unwrap_or(64 << 10).clamp(1, 16 << 20) as usize;
            let bytes = number("bytes").unwrap_or(1 << 20);
            Endpoint::Source(Box::new(Source::new(state.pool(size)?, bytes)))
        }
        _ => Endpoint::Echo,
    })
}

/// The value of a header field, compared without case.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
