//! HTTP towards clients: the HTTP/1.1 server, request framing checks, responses of the proxy itself, and
//! the client address that trusted proxies report.

pub(crate) mod client_address;
pub(crate) mod error_pages;
pub(crate) mod framing;
pub(crate) mod h1;
mod head_error;
mod http1_body;
pub(crate) mod http2;
pub(crate) mod interim;
mod on_demand;
pub(crate) mod output;
pub(crate) mod reply;
pub(crate) mod request_timer;
pub(crate) mod response;
mod unread_head;
