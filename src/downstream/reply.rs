//! What a request handler returns, for every HTTP version.

use hyper::Response;

use super::response::Body;

/// The answer to one request.
///
/// On HTTP/1.1 a tunnel takes over the whole connection, so at most one follows a connection. The
/// type is the same for a version with many streams, where each tunnel takes over its own.
#[derive(Debug)]
pub enum Reply<T> {
    /// An ordinary response.
    Response(Response<Body>),
    /// The response that accepts an upgrade, and the tunnel that starts once the client has it.
    Tunnel {
        /// The 101 (RFC 6455 4.2.2).
        response: Response<Body>,
        /// Boxed: it waits while the response is written, and few requests have one.
        tunnel: Box<T>,
    },
}
