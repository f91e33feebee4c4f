//! Behaviour of the real executable, with independent parties on both sides: tungstenite, or raw
//! bytes. One module for each promise; `support` holds the house these tests live in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

mod access_log;
mod activation;
mod answers;
mod backend_frames;
mod certificates;
mod changes;
mod check;
mod closing;
mod compression;
mod control;
mod control_config;
mod control_drain;
mod control_socket;
mod counted;
mod ctl_client;
mod delays;
mod descriptors;
mod dial;
mod drain;
mod early;
mod ends;
mod floods;
mod forwarded;
mod frames;
mod framing;
mod handover;
mod handshake;
mod heads;
mod health;
mod heartbeat;
mod hello;
mod http;
mod lifetime;
mod limits;
mod lost_backends;
mod metrics;
mod operator;
mod origin;
mod paused;
mod peers;
mod permits;
mod policies;
mod pressure;
mod proxy_protocol;
mod proxy_sent;
mod rates;
mod readers;
mod records;
mod relay;
mod reload;
mod route_headers;
mod signals;
mod stalled_log;
mod status;
mod sticky;
mod streaming;
mod strict;
mod time;
mod tls;
mod upgrades;
mod watchdog;
