//! HTTP/2 to clients (RFC 9113), with the h2 library.

mod client_io;
pub(crate) mod connection;
mod frame_limits;
mod frame_scanner;
pub(crate) mod handler;
pub(crate) mod preface;
pub(crate) mod request_body;
mod request_head;
mod response;
mod stream;
