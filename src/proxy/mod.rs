//! The data path of one connection, in order: [`serve`] accepts and secures it, then each request
//! is checked, routed, admitted and answered, and an upgrade becomes a `session`.

pub(crate) mod capacity;
pub(crate) mod charged_response;
mod client_body;
mod deciding_setting;
pub(crate) mod drained;
mod dropped;
pub(crate) mod forwarded_body;
pub(crate) mod local_ports;
pub(crate) mod maintenance;
pub(crate) mod members;
mod open_tunnels;
pub(crate) mod opening;
mod own_response;
pub(crate) mod redirect;
pub(crate) mod request;
pub(crate) mod request_log;
mod request_observer;
pub(crate) mod route;
pub(crate) mod route_match;
pub(crate) mod routing_table;
pub(crate) mod sent_fields;
pub mod serve;
mod serve_http2;
pub(crate) mod session;
pub(crate) mod shared_backends;
pub mod snapshot;
pub mod state;
