//! The result of a request handler, independent of the HTTP version.

use hyper::{HeaderMap, Response};

use super::response::Body;

/// The reply to one request.
///
/// In HTTP/1.1 a tunnel takes over the whole connection, so a connection has at most one. In a version
/// with multiple streams, each tunnel would take over its own stream.
#[derive(Debug)]
pub enum Reply<T> {
    /// An ordinary response.
    Response(Response<Body>),
    /// The response that accepts an upgrade, and the tunnel that starts once it has been sent.
    Tunnel {
        /// The 101 (RFC 6455 4.2.2).
        response: Response<Body>,
        /// Boxed, because most requests have no tunnel.
        tunnel: Box<T>,
    },
}

impl<T> Reply<T> {
    /// The header fields of the response.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Response(response) | Self::Tunnel { response, .. } => response.headers_mut(),
        }
    }
}
