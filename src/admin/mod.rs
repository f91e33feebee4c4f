//! What an operator sees and commands: health and metrics over HTTP, the status page, and the control
//! socket. Nothing here is on the path of a client's connection.

pub(crate) mod control;
pub(crate) mod http;
pub(crate) mod status;
