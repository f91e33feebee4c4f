use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::control_frame::CLOSE_REASON_MAX;
use crate::policy::Limit;
use crate::test_support::policy;
use crate::violation::Violation;

/// The close codes to the client and to the backend of the reasons with the same name and initiator.
type Codes = [BTreeSet<String>; 2];

// Requirements: F26.
#[test]
fn close_codes_match_the_documented_table() {
    let mut actual: BTreeMap<(String, String), Codes> = BTreeMap::new();
    let drain_code = CloseCode::new(4123).expect("a valid code");
    let policy = SessionPolicy { drain_code, ..policy() };
    for reason in every_reason() {
        let key = (reason.as_str().to_owned(), reason.initiator().to_owned());
        let codes = actual.entry(key).or_default();
        for (codes, side) in codes.iter_mut().zip(Side::BOTH) {
            codes.insert(documented_code(reason, reason.close_code(side, &policy), drain_code));
            assert!(reason.close_reason(side, &policy).len() <= CLOSE_REASON_MAX);
        }
    }
    assert_eq!(actual, documented_codes());
}

/// What the table says about a code that the proxy sends, or about none.
fn documented_code(
    reason: TerminationReason,
    code: Option<CloseCode>,
    drain_code: CloseCode,
) -> String {
    match (reason, code) {
        (TerminationReason::ClientClosed | TerminationReason::BackendClosed, None) => {
            "as received".to_owned()
        }
        (_, None) => "none".to_owned(),
        (TerminationReason::Killed, Some(code)) if code == drain_code => {
            "from the command".to_owned()
        }
        (_, Some(code)) if code == drain_code => "drain.code".to_owned(),
        (_, Some(code)) => code.to_string(),
    }
}

/// The table of `docs/records.md`.
fn documented_codes() -> BTreeMap<(String, String), Codes> {
    const RECORDS: &str = include_str!("../../../../docs/records.md");
    let (_, rest) = RECORDS.split_once("## Tunnels that ended").expect("the section");
    let (section, _) = rest.split_once("\n## ").expect("the next section");
    let list = |cell: &str| -> Vec<String> {
        cell.split(", ").map(|item| item.trim_matches('`').to_owned()).collect()
    };
    let mut codes = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `") && !line.contains("| `by` ")) {
        let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [ends, by, to_client, to_backend, _cause] = cells[..] else { panic!("{row}") };
        for end in list(ends) {
            let to = [to_client, to_backend].map(|cell| list(cell).into_iter().collect());
            let before = codes.insert((end, by.trim_matches('`').to_owned()), to);
            assert_eq!(before, None, "two rows: {row}");
        }
    }
    codes
}

/// Every reason with every side and detail.
fn every_reason() -> impl Iterator<Item = TerminationReason> {
    use TerminationReason as Reason;
    let one_sided = Side::BOTH.into_iter().flat_map(|side| {
        let violations = Violation::all().map(move |violation| match violation {
            Violation::LimitExceeded(limit) => Reason::LimitExceeded(side, limit),
            Violation::ProtocolError(error) => Reason::ProtocolError(side, error),
        });
        [Reason::HeartbeatTimeout(side), Reason::WriteTimeout(side), Reason::WriteTooSlow(side)]
            .into_iter()
            .chain(violations)
    });
    let all = one_sided.chain([
        Reason::ClientClosed,
        Reason::BackendClosed,
        Reason::ClientDisconnected,
        Reason::BackendDisconnected,
        Reason::Idle,
        Reason::Lifetime,
        Reason::Drained,
        Reason::Killed,
        Reason::BackendLost,
        Reason::Rebalanced,
        Reason::Aborted,
    ]);
    // A new reason does not compile until it is listed above.
    all.inspect(|reason| match reason {
        Reason::LimitExceeded(..)
        | Reason::ProtocolError(..)
        | Reason::HeartbeatTimeout(_)
        | Reason::WriteTimeout(_)
        | Reason::WriteTooSlow(_)
        | Reason::ClientClosed
        | Reason::BackendClosed
        | Reason::ClientDisconnected
        | Reason::BackendDisconnected
        | Reason::Idle
        | Reason::Lifetime
        | Reason::Drained
        | Reason::Killed
        | Reason::BackendLost
        | Reason::Rebalanced
        | Reason::Aborted => {}
    })
}

#[test]
fn reasons_name_their_key_and_value() {
    let mut policy = policy();
    for (reason, key, value) in [
        (TerminationReason::Idle, "limits.idle", "1h"),
        (TerminationReason::HeartbeatTimeout(Side::Client), "heartbeat.timeout", "10s"),
        (TerminationReason::WriteTimeout(Side::Client), "limits.write_timeout", "30s"),
        (
            TerminationReason::LimitExceeded(Side::Client, LimitKind::Message),
            "limits.message_from_client",
            "1MiB",
        ),
        (
            TerminationReason::ProtocolError(Side::Client, ProtocolError::Inflate),
            "route.compression",
            "inspect",
        ),
    ] {
        assert_eq!(reason.key(), Some(key));
        assert_eq!(reason.value(&policy).as_deref(), Some(value));
    }
    assert_eq!(
        (TerminationReason::Drained.key(), TerminationReason::Drained.value(&policy)),
        (None, None)
    );
    policy.idle = Some(Duration::from_millis(90_500));
    assert_eq!(TerminationReason::Idle.value(&policy).as_deref(), Some("90500ms"));
    policy.idle = Some(Duration::from_secs(90));
    assert_eq!(TerminationReason::Idle.value(&policy).as_deref(), Some("90s"));
    policy.from_client.message = Some(Limit::close(1500));
    let value = TerminationReason::LimitExceeded(Side::Client, LimitKind::Message).value(&policy);
    assert_eq!(value.as_deref(), Some("1500B"));
}
