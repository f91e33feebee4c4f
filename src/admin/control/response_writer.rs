//! Writes responses to one connection of the control socket.

use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

use crate::control_protocol::encode;
use crate::control_protocol::response::{CommandError, Response};

/// The writing half of a connection.
pub(super) struct ResponseWriter(OwnedWriteHalf);

impl ResponseWriter {
    pub(super) fn new(stream: OwnedWriteHalf) -> Self {
        Self(stream)
    }

    /// Sends a success. Returns false if the client is gone or does not read within 10 s.
    pub(super) async fn ok(&mut self, value: &impl Serialize) -> bool {
        self.send(&Response::Ok(value)).await
    }

    /// Sends an error; the result is as for [`Self::ok`].
    pub(super) async fn error(&mut self, error: CommandError) -> bool {
        self.send(&Response::<()>::Error(error)).await
    }

    async fn send(&mut self, response: &Response<impl Serialize>) -> bool {
        let written = timeout(WRITE_TIMEOUT, self.0.write_all(&encode(response))).await;
        written.is_ok_and(|written| written.is_ok())
    }

    /// Waits for a future; `None` if the client disconnects first. A client may shut down its
    /// sending side after the request, so only a closed receiving side counts as a disconnect.
    pub(super) async fn unless_disconnected<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let disconnected = async {
            loop {
                tokio::time::sleep(DISCONNECT_POLL_INTERVAL).await;
                let ready = self.0.ready(Interest::WRITABLE).await;
                if ready.is_ok_and(|ready| ready.is_write_closed()) {
                    return;
                }
            }
        };
        tokio::select! {
            output = future => Some(output),
            () = disconnected => None,
        }
    }
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const DISCONNECT_POLL_INTERVAL: Duration = Duration::from_millis(200);
