//! What happened to a backend, or within a tunnel that goes on: lines for the operator, no records.

use std::fmt;
use std::time::Duration;

use tracing::{debug, info, warn};
use ws::{LimitKind, SessionPolicy, Side, Violation};

use crate::client::ClientKey;

/// A backend did not take a connection of this route; `left_out` if that was once too often.
pub fn backend_failed(id: &str, route: &str, why: &dyn fmt::Display, left_out: Option<Duration>) {
    match left_out {
        Some(span) => warn!(
            route,
            backend = id,
            error = why.to_string(),
            seconds = span.as_secs(),
            "backend left out for a while; its clients go to the next, if there is one"
        ),
        None => {
            debug!(route, backend = id, error = why.to_string(), "backend refused a connection");
        }
    }
}

/// A backend that was left out gave a lawful answer again, to a client of this route.
pub fn backend_back(id: &str, route: &str) {
    info!(route, backend = id, "backend back");
}

/// One side of a tunnel that goes on.
#[derive(Clone, Copy, Debug)]
pub struct TunnelSide<'a> {
    /// Its number.
    pub session: u64,
    /// Whose it is.
    pub client: ClientKey,
    /// Name of the route.
    pub route: &'a str,
    /// Id of the backend.
    pub backend: &'a str,
    /// What it is held to.
    pub terms: &'a SessionPolicy,
    /// Which side.
    pub side: Side,
}

/// A tunnel would have been closed, had a limit or `strict` not been set to `report`; once for
/// each tunnel, side and offence.
pub fn would_close(of: TunnelSide<'_>, offence: Violation) {
    let (key, value) = match offence {
        Violation::Over(rule) => (rule.key(of.side), rule.value(of.terms.limits(of.side))),
        Violation::Breach(_) => ("route.strict", Some("report".to_owned())),
    };
    info!(
        session = of.session,
        client_key = %of.client,
        route = of.route,
        backend = of.backend,
        side = of.side.slug(),
        rule = offence.slug(),
        key,
        value,
        "would have closed"
    );
}

/// A side comes faster than this limit lets it, and is made to wait; once for each tunnel, side
/// and limit.
pub fn delaying(of: TunnelSide<'_>, rule: LimitKind) {
    info!(
        session = of.session,
        client_key = %of.client,
        route = of.route,
        backend = of.backend,
        side = of.side.slug(),
        rule = rule.slug(),
        key = rule.key(of.side),
        value = rule.value(of.terms.limits(of.side)),
        "delaying a {} that comes too fast",
        of.side.slug()
    );
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::num::NonZeroU64;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::telemetry::fixtures::visitor;
    use ws::{Limit, LimitAction, ProtocolError, RateLimit};

    #[derive(Clone, Default)]
    struct EventFixture(Arc<Mutex<Vec<u8>>>);

    impl Write for EventFixture {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(side: Side, tell: impl FnOnce(TunnelSide<'_>)) -> Value {
        let mut terms = SessionPolicy::default();
        terms.from_client.message = Some(Limit { max: 2048, action: LimitAction::Report });
        let (per_second, burst) = (NonZeroU64::new(50).unwrap(), NonZeroU64::new(100).unwrap());
        terms.from_backend.messages =
            Some(RateLimit { per_second, burst, action: LimitAction::Delay });
        let paper = EventFixture::default();
        let writer = paper.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let (client, backend) = (visitor().key, "127.0.0.1:9001");
            tell(TunnelSide { session: 7, client, route: "chat", backend, terms: &terms, side });
        });
        let line = paper.0.lock().unwrap().clone();
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn what_would_have_been_closed_is_told_with_its_rule_and_key() {
        let line = told(Side::Client, |of| would_close(of, Violation::Over(LimitKind::Message)));
        for (key, value) in [
            ("level", "INFO"),
            ("message", "would have closed"),
            ("client_key", "203.0.113.7"),
            ("route", "chat"),
            ("backend", "127.0.0.1:9001"),
            ("side", "client"),
            ("rule", "message_too_big"),
            ("key", "limits.message_from_client"),
            ("value", "2KiB"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
        assert_eq!(line["session"], 7);
        let line =
            told(Side::Backend, |of| would_close(of, Violation::Breach(ProtocolError::Opcode)));
        for (key, value) in [
            ("side", "backend"),
            ("rule", "ws_opcode"),
            ("key", "route.strict"),
            ("value", "report"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
    }

    #[test]
    fn a_delay_is_told_with_its_rule_and_key() {
        let line = told(Side::Backend, |of| delaying(of, LimitKind::Messages));
        for (key, value) in [
            ("level", "INFO"),
            ("message", "delaying a backend that comes too fast"),
            ("client_key", "203.0.113.7"),
            ("route", "chat"),
            ("side", "backend"),
            ("rule", "message_rate"),
            ("key", "limits.messages_from_backend"),
            ("value", "50/s, burst 100"),
        ] {
            assert_eq!(line[key], value, "{key} in {line}");
        }
    }
}
