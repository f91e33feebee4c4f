//! The server of the control socket: a Unix socket for root and the user that tidegate runs as. It
//! is the only way to change a running process, apart from signals. [`crate::control_protocol`] defines the
//! messages.

mod certificates;
mod commands;
mod effective_config;
mod explain;
mod hypothetical_request;
mod rebalance;
mod response_writer;
mod selection;
pub(crate) mod server;
pub(crate) mod service;
mod session_list;
pub(crate) mod socket;
mod tail;
