//! The record of a plain request that a backend answered.

use std::time::Duration;

use hyper::StatusCode;

use super::{ResponseProgress, millis, write_client, write_request_fields, write_response};
use crate::client::ClientInfo;
use crate::reject::stage::ConnectionStage;
use crate::telemetry::access_log::write_record;
use crate::telemetry::request_fields::RequestFields;

/// A plain request whose response was sent, or was being sent when the client disconnected.
#[derive(Debug)]
pub struct ServedRequest<'a> {
    /// The client that sent the request.
    pub client: &'a ClientInfo,
    /// Name of the route.
    pub route: &'a str,
    /// Id of the backend.
    pub backend: &'a str,
    /// Fields of the request, already redacted.
    pub fields: RequestFields<'a>,
    /// Status of the response.
    pub status: StatusCode,
    /// Whether all of the response was passed on; otherwise the client disconnected.
    pub is_complete: bool,
    /// What was transferred.
    pub progress: ResponseProgress,
    /// Time from the complete request head to the end.
    pub age: Duration,
    /// Number of the configuration that routed the request.
    pub generation: u64,
}

/// Writes the record of a plain request that a backend answered.
pub fn record_served(served: &ServedRequest<'_>) {
    write_record("served", |line| {
        write_client(line, served.client);
        line.text("route", served.route);
        line.text("backend", served.backend);
        write_request_fields(line, &served.fields);
        line.text("stage", ConnectionStage::Response.as_str());
        if served.is_complete {
            line.text("end", "complete");
        } else {
            line.text("end", "client_disconnected");
            line.text("by", "client");
        }
        line.number("status", u64::from(served.status.as_u16()));
        write_response(line, &served.progress);
        line.number("age_ms", millis(served.age));
        line.number("generation", served.generation);
    });
}
