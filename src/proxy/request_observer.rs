//! What the record and the health of backends learn while a plain request is forwarded.

use std::sync::Arc;

use hyper::Response;

use super::request_log::RequestLog;
use crate::client::ClientKey;
use crate::reject::RejectReason;
use crate::upstream::connect_error::ConnectError;
use crate::upstream::ejection::ResponseKind;
use crate::upstream::forward::ForwardObserver;
use crate::upstream::pool::{Backend, Pool};

/// Keeps the log of a request up to date, and sends interim responses to its client.
pub(super) struct RequestObserver<'r> {
    pub(super) log: &'r mut RequestLog,
    pub(super) send_interim: &'r (dyn Fn(&Response<()>) + Sync),
    /// The pool that serves the request, and the client.
    pub(super) from: (&'r Pool, ClientKey),
}

impl ForwardObserver for RequestObserver<'_> {
    fn connected(&mut self, backend: &Arc<Backend>) {
        self.log.set_backend(backend);
    }

    fn not_connected(&mut self, failed: &ConnectError) {
        self.log.set_connect_error(failed);
    }

    fn responded(&mut self, backend: &Backend, response: Result<(), RejectReason>) {
        let (pool, client) = self.from;
        pool.record_response(backend, ResponseKind::Plain, client, response);
    }

    fn interim(&self, response: &Response<()>) {
        (self.send_interim)(response);
    }
}
