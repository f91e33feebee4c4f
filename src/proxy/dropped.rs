//! Reports connections that ended without a complete request, or because of an error of their client.

use std::time::Duration;

use super::deciding_setting;
use super::snapshot::Snapshot;
use super::state::ProxyState;
use crate::client::ClientInfo;
use crate::config::settings::ListenerSettings;
use crate::reject::drop_reason::DropReason;
use crate::reject::invalid_head::Addressed;
use crate::telemetry::record::{DroppedConnection, record_drop};
use crate::telemetry::redact::{origin, target};

/// Counts a connection and writes its record. `age` is the time since it was accepted.
pub(super) fn report_drop(
    state: &ProxyState,
    snapshot: &Snapshot,
    listener: Option<&ListenerSettings>,
    client: &ClientInfo,
    reason: &DropReason,
    age: Duration,
) {
    state.metrics.dropped(reason);
    let addressed = if let DropReason::HeadInvalid(head) = reason {
        head.addressed.clone()
    } else {
        Addressed::default()
    };
    let redact = &snapshot.settings.log.redact;
    record_drop(&DroppedConnection {
        client,
        reason,
        host: addressed.host.as_deref().map(|sent| origin(sent, redact)).as_deref(),
        target: addressed.target.as_deref().map(|sent| target(sent, redact)).as_deref(),
        deciding: deciding_setting::of_drop(reason, snapshot, listener),
        age,
    });
}
