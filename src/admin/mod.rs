//! The interfaces for operators: health, metrics and the status page over HTTP, and the control
//! socket. Client connections never pass through this folder.

pub(crate) mod connections;
pub(crate) mod control;
pub(crate) mod http;
pub(crate) mod status;
