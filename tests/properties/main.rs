//! Property tests: invariants of the protocol core and the parsers for random input, and the core
//! compared with another implementation of RFC 6455. The fuzz targets check the same invariants.

#![allow(clippy::expect_used, reason = "failing the test is intended")]

mod cases;
mod forwarded;
mod headers;
mod http2;
mod inflate;
mod proxy_header;
mod reference;
mod script;
mod session_model;
mod tls;
mod tungstenite;
