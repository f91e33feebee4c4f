//! What an HTTP/2 connection asks of the proxy.

use std::future::Future;

use hyper::{Request, Response};

use super::request_body::Http2Body;
use crate::downstream::reply::Reply;
use crate::net::http2::stream::Http2Stream;
use crate::reject::RejectReason;
use crate::reject::drop_reason::DropReason;

/// Handles the requests of a connection.
pub trait Http2Handler: Send + Sync + 'static {
    /// A tunnel with a completed handshake.
    type Tunnel: Send;

    /// Responds to a request, unless it must be rejected for the reason in `checked`.
    fn handle(
        &self,
        request: Request<Http2Body>,
        checked: Result<(), RejectReason>,
        send_interim: &(dyn Fn(&Response<()>) + Sync),
    ) -> impl Future<Output = Reply<Self::Tunnel>> + Send;

    /// Starts a tunnel on the stream on which its 200 was sent.
    fn start_tunnel(&self, stream: Http2Stream, tunnel: Box<Self::Tunnel>);

    /// Ends a tunnel whose stream ended before its 200 could be sent.
    fn abandon_tunnel(&self, tunnel: Box<Self::Tunnel>);

    /// No request is in progress, after at least one: all streams that are open have a response of the proxy itself.
    /// Called again and again.
    fn set_idle(&self);

    /// How many of these responses there are, and whether the connection carries tunnels. Called again and again.
    fn set_waiting(&self, own_responses: usize, has_tunnels: bool);

    /// Whether a part of a head is kept, which may take this much memory. Called when that changes; 0 if none is kept.
    ///
    /// # Errors
    /// There is no memory for it: the connection must end at once.
    fn set_partial_head(&self, bytes: u64) -> Result<(), DropReason>;

    /// Counts heads that were refused before they became requests.
    fn count_refused_heads(&self, count: u32);

    /// Whether the connection is that of a proxy, with requests of many clients.
    fn is_shared(&self) -> bool;

    /// Fills `bytes` with randomness.
    fn fill_random(&self, bytes: &mut [u8]);
}
