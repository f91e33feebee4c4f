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
mod backend_connect;
mod backend_frames;
mod backend_responses;
mod certificates;
mod check_command;
mod client_frames;
mod close_handshake;
mod compression;
mod control_commands;
mod control_config;
mod control_drain;
mod control_socket;
mod ctl_client;
mod drain;
mod early_data;
mod file_descriptors;
mod forwarded_headers;
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
mod message_floods;
mod metrics;
mod operator;
mod origin;
mod outcome_counters;
mod paused;
mod peers;
mod permits;
mod policies;
mod pressure;
mod proxy_protocol;
mod proxy_sent;
mod rate_delays;
mod rates;
mod readers;
mod records;
mod relay;
mod reload;
mod reload_changes;
mod request_framing;
mod route_headers;
mod signals;
mod socket_activation;
mod stalled_log;
mod status;
mod sticky;
mod streaming;
mod strict;
mod termination_counters;
mod time;
mod tls;
mod upgrades;
mod watchdog;
