//! HTTP/1.1 connections to backends, over hyper: one exchange of a request and its response, and the
//! connections that wait between two of them.

pub(crate) mod connection;
pub(crate) mod exchange;
mod exchange_waker;
pub(crate) mod idle_connections;
pub(crate) mod idle_timer;
pub(crate) mod interim;
mod other_protocol;
pub(crate) mod reset_tolerant_writer;
pub(crate) mod response_body;
pub(crate) mod reuse_hint;
