//! Plain HTTP on kept-alive connections, for any path with the query `size=S&message=M`: GET receives a
//! body of S bytes that starts with message M, and the body of a POST must be this one.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handshake::parameter;
use super::{READ_BYTES, State};
use crate::error::Error;
use crate::http::{Body, BodyVerifier, Event, MessageReader};
use crate::message::MessagePool;

/// Longer than proxies keep idle connections, so that none is closed while a request arrives.
const KEEP_ALIVE: Duration = Duration::from_secs(3600);

/// Serves the requests of a connection, from which `received` was read already.
pub async fn serve(mut stream: TcpStream, state: &State, received: &[u8]) -> Result<(), Error> {
    let mut requests = Requests::default();
    requests.respond(&mut stream, received, state).await?;
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let count = timeout(KEEP_ALIVE, stream.read(&mut bytes))
            .await
            .map_err(|_| Error::new("no further request received"))??;
        if count == 0 {
            return Ok(());
        }
        requests.respond(&mut stream, &bytes[..count], state).await?;
    }
}

/// The requests of one connection.
#[derive(Default)]
struct Requests {
    reader: MessageReader,
    current: Option<Request>,
    count: u64,
}

impl Requests {
    /// Responds to all requests that end in `bytes`.
    async fn respond(
        &mut self,
        stream: &mut TcpStream,
        mut bytes: &[u8],
        state: &State,
    ) -> Result<(), Error> {
        while let Some((head, body)) = self.response(&mut bytes, state)? {
            for piece in body.with_head(&head) {
                stream.write_all(&piece).await?;
            }
        }
        Ok(())
    }

    /// The response to the next request that ends in `bytes`, from whose start it is removed.
    fn response(
        &mut self,
        bytes: &mut &[u8],
        state: &State,
    ) -> Result<Option<(String, Body)>, Error> {
        while let Some(event) = self.reader.next(bytes)? {
            match event {
                Event::Head { text, length } => {
                    self.current = Some(Request::new(&text, length, state)?);
                }
                Event::Body(part) => {
                    if let Some(request) = &mut self.current {
                        request.verify(part);
                    }
                }
            }
            if self.reader.is_complete()
                && let Some(request) = self.current.take()
            {
                self.count += 1;
                return Ok(Some(request.response(self.count)));
            }
        }
        Ok(None)
    }
}

struct Request {
    is_post: bool,
    size: u64,
    first: u64,
    pool: Rc<MessagePool>,
    verifier: BodyVerifier,
    /// Why the body of the request is wrong.
    fault: Option<Error>,
}

impl Request {
    fn new(head: &str, length: u64, state: &State) -> Result<Self, Error> {
        let missing = || Error::new("a plain HTTP request without size and message");
        let size = parameter(head, "size").ok_or_else(missing)?;
        let first = parameter(head, "message").ok_or_else(missing)?;
        let pool = state.pool(Body::part_bytes(size))?;
        let is_post = head.starts_with("POST ");
        let expected = if is_post { size } else { 0 };
        let fault = (length != expected)
            .then(|| Error::new(format!("the body has {length} bytes, expected {expected}")));
        let verifier = BodyVerifier::new(pool.clone(), first);
        Ok(Self { is_post, size, first, pool, verifier, fault })
    }

    fn verify(&mut self, part: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.verifier.verify(part).err();
        }
    }

    /// The head and body of the response to the request with this number on its connection.
    fn response(self, number: u64) -> (String, Body) {
        let fields = format!("Cache-Control: no-store\r\nX-Request-Number: {number}\r\n");
        let (head, size) = match self.fault {
            Some(fault) => (
                format!(
                    "400 Bad Request\r\n{fields}X-Fault: {}\r\nContent-Length: 0\r\n\r\n",
                    fault.0
                ),
                0,
            ),
            // As Engine.IO answers a POST.
            None if self.is_post => (
                format!("200 OK\r\n{fields}Content-Type: text/html\r\nContent-Length: 2\r\n\r\nok"),
                0,
            ),
            None => (
                format!(
                    "200 OK\r\n{fields}Content-Type: text/plain; charset=UTF-8\r\n\
                     Content-Length: {}\r\n\r\n",
                    self.size
                ),
                self.size,
            ),
        };
        (format!("HTTP/1.1 {head}"), Body::new(self.pool, size, self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A POST of `body` that claims to be message 5, and what the backend responds.
    fn post(body: &[u8]) -> String {
        let length = body.len();
        let head =
            format!("POST /?size=1000&message=5 HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        let bytes = [head.as_bytes(), body].concat();
        let response = Requests::default().response(&mut bytes.as_slice(), &State::new());
        response.unwrap().expect("a response to a complete request").0
    }

    #[test]
    fn rejects_posts_with_wrong_bytes() {
        let good = MessagePool::unmasked(1000).unwrap().payload(5).to_vec();
        assert!(post(&good).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(post(&good[..999]).contains("X-Fault: the body has 999 bytes, expected 1000\r\n"));
        for at in [0, 999] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let fault = format!("X-Fault: wrong byte: message 5, byte {at}\r\n");
            assert!(post(&bad).contains(&fault), "byte {at}");
        }
    }
}
