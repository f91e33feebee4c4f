//! Interim responses (1xx) to a client, which hyper's server cannot send.

use std::io::Write as _;

use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::{Request, Response, StatusCode, Version};

use super::output::ResponseOutput;

/// Sends interim responses to the client of the request in progress.
#[derive(Clone, Debug)]
pub struct InterimSender {
    output: ResponseOutput,
    /// The request is HTTP/1.1: an older client knows no interim responses (RFC 9110 15.2).
    is_supported: bool,
    expects_continue: bool,
}

impl InterimSender {
    /// The sender for this request, on the stream of `output`.
    pub fn new(output: ResponseOutput, request: &Request<Incoming>) -> Self {
        let is_supported = request.version() >= Version::HTTP_11;
        let has_body = !request.body().is_end_stream();
        let expects_continue = is_supported && has_body && request.headers().contains_key(EXPECT);
        Self { output, is_supported, expects_continue }
    }

    /// Whether the client waits for a 100 before it sends its body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Sends an interim response, unless the client cannot receive it, does not expect a 100, or too much
    /// is waiting to be written.
    pub fn send(&self, response: &Response<()>) {
        let is_continue = response.status() == StatusCode::CONTINUE;
        if self.is_supported && (self.expects_continue || !is_continue) {
            // Only one 100 is awaited.
            let is_awaited = is_continue && self.output.has_expectation();
            self.output.queue_interim(&serialize(response), is_awaited);
            if is_continue {
                self.output.close_expectation();
            }
        }
    }
}

/// The head as bytes (RFC 9112 4). The values were received in a head and contain no line ends.
fn serialize(response: &Response<()>) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = Vec::with_capacity(256);
    // Writing to memory cannot fail.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_serialized_as_received() {
        let response =
            Response::builder().status(103).header("link", "</a>").header("link", "</b>");
        assert_eq!(
            serialize(&response.body(()).unwrap()),
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
        );
        let unknown = Response::builder().status(199).body(()).unwrap();
        assert_eq!(serialize(&unknown), b"HTTP/1.1 199 \r\n\r\n");
    }
}
