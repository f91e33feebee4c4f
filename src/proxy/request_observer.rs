//! What happens while a plain request is forwarded: for its log and its client.

use std::sync::Arc;

use hyper::Response;

use super::request_log::RequestLog;
use crate::upstream::connect_error::ConnectError;
use crate::upstream::forward::ForwardObserver;
use crate::upstream::pool::Backend;

/// Keeps the log of a request up to date, and sends interim responses to its client.
pub(super) struct RequestObserver<'r> {
    pub(super) log: &'r mut RequestLog,
    pub(super) send_interim: &'r (dyn Fn(&Response<()>) + Sync),
}

impl ForwardObserver for RequestObserver<'_> {
    fn connected(&mut self, backend: &Arc<Backend>) {
        self.log.set_backend(backend);
    }

    fn not_connected(&mut self, failed: &ConnectError) {
        self.log.set_connect_error(failed);
    }

    fn interim(&self, response: &Response<()>) {
        (self.send_interim)(response);
    }
}
