//! End-to-end tests of the executable, with independent clients and backends: tungstenite or raw
//! bytes. One module per feature; `support` is the test harness.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing the test is intended"
)]

mod support;

mod access_log;
mod admin_connections;
mod admin_load;
mod backend_connect;
mod backend_frames;
mod backend_keep_alive;
mod backend_responses;
mod backend_tls;
mod backend_tls_failures;
mod backpressure_memory;
mod balancing;
mod before_101;
mod broken_responses;
mod canary;
mod certificates;
mod check_certificates;
mod check_command;
mod client_addresses;
mod client_frames;
mod client_hello;
mod close_handshake;
mod compression;
mod connection_rate;
mod control_commands;
mod control_config;
mod control_drain;
mod control_socket;
mod ctl_client;
mod delay_action;
mod drain;
mod ejection;
mod error_pages;
mod field_names;
mod file_descriptors;
mod forwarded_headers;
mod full_backends;
mod handover;
mod handshake;
mod head_limits;
mod health_endpoints;
mod heartbeat;
mod hsts;
mod interim_responses;
mod invalid_heads;
mod invalid_upgrades;
mod limit_actions;
mod limits;
mod lost_backends;
mod lost_handshakes;
mod maintenance;
mod many_certificates;
mod maximum_age;
mod message_floods;
mod metrics;
mod origin;
mod outcome_counters;
mod outcome_records;
mod overload;
mod path_readings;
mod permits;
mod pin_cookies;
mod plain_http;
mod pool_probes;
mod pools;
mod proxy_fields;
mod proxy_protocol;
mod proxy_protocol_out;
mod rate_delays;
mod rebinding;
mod record_rate;
mod redirect;
mod refused_upgrades;
mod rejected_head_records;
mod relay;
mod reload;
mod reload_changes;
mod repeated_fields;
mod report_mode;
mod request_framing;
mod request_timeouts;
mod route_headers;
mod route_overrides;
mod secrets_in_records;
mod shed_connections;
mod signals;
mod slow_readers;
mod slow_uploads;
mod socket_activation;
mod stalled_log;
mod status;
mod stickiness;
mod streaming;
mod termination_counters;
mod tls;
mod tls_floods;
mod tls_interop;
mod trailers;
mod trusted_proxies;
mod tunnel_timeouts;
mod unix_backends;
mod unread_bodies;
mod utf8;
mod watchdog;
