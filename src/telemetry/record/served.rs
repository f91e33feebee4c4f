//! The record of a plain request that a backend answered.

use std::time::Duration;

use hyper::StatusCode;

use super::{
    ResponseProgress, kind, millis, write_address, write_header_problems, write_protocol,
    write_request, write_response, write_target, write_tls,
};
use crate::client::ClientInfo;
use crate::reject::stage::ConnectionStage;
use crate::telemetry::access_log::write_record;
use crate::telemetry::line::LogLine;
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
    let kind = kind(served.client, "served", end(served));
    write_record(kind, |line| write_served(line, served));
}

fn end(served: &ServedRequest<'_>) -> &'static str {
    if served.is_complete { "complete" } else { "client_disconnected" }
}

pub(super) fn write_served(line: &mut LogLine, served: &ServedRequest<'_>) {
    let ServedRequest { client, fields, .. } = served;
    line.bare("client", |bytes| client.addr.write_to(bytes));
    line.text("end", end(served));
    line.text("by", (!served.is_complete).then_some("client"));
    line.number("status", u64::from(served.status.as_u16()));
    line.text("route", served.route);
    write_target(line, fields);
    line.text("backend", served.backend);
    line.number("age_ms", millis(served.age));
    write_response(line, &served.progress);
    write_header_problems(line, fields);
    if line.is_text() {
        write_address(line, client);
        write_protocol(line, client);
        line.text("user_agent", fields.user_agent);
        line.text("request_id", fields.request_id);
        return;
    }
    line.text("stage", ConnectionStage::Response.as_str());
    line.text("listener", &*client.listener);
    write_address(line, client);
    write_tls(line, client);
    write_protocol(line, client);
    write_request(line, fields);
    line.number("generation", served.generation);
}
