//! HTTP towards clients: serving HTTP/1.1, request framing checks, our own responses, and the client
//! address that trusted proxies report.

pub(crate) mod client_address;
pub(crate) mod framing;
pub(crate) mod h1;
pub(crate) mod reply;
pub(crate) mod response;
