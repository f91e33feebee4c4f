//! Behaviour of the real executable, with independent parties on both sides: tungstenite, or raw
//! bytes. One module for each promise; `support` holds the house these tests live in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

mod answers;
mod backend_frames;
mod check;
mod closing;
mod descriptors;
mod dial;
mod drain;
mod early;
mod frames;
mod framing;
mod handshake;
mod heads;
mod health;
mod hello;
mod http;
mod limits;
mod origin;
mod permits;
mod pressure;
mod records;
mod relay;
mod reload;
mod signals;
mod stalled_log;
mod sticky;
mod streaming;
mod time;
mod tls;
mod upgrades;
