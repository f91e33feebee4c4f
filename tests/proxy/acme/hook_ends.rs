//! The DNS records of an order whose process ends: they are removed.

use std::fs;

use rustix::process::Signal;

use super::AcmeBed;
use super::ca::{Gatekeeper, Step};
use super::challenges::hook;
use crate::support::{Proxy, TempDir};

/// Starts a process with a hook, whose validation waits.
async fn start_until_validation(bed: &AcmeBed, folder: &TempDir) -> (Proxy, Gatekeeper, String) {
    let path = hook(folder, "");
    let keys = format!("challenge = \"dns-01\"\ndns_hook = {path:?}\n");
    bed.ca.validate_dns_in(&folder.path().join("zone"));
    let validation = bed.ca.hold_next(Step::Validation);
    let proxy = bed.start(&keys).await;
    validation.reached().await;
    assert!(!zone(folder).is_empty());
    (proxy, validation, keys)
}

/// The records in the zone.
fn zone(folder: &TempDir) -> String {
    let files = fs::read_dir(folder.path().join("zone")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

fn calls(folder: &TempDir) -> Vec<String> {
    let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
    calls.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

// Requirements: CK15.
#[tokio::test]
async fn drain_removes_dns_records_of_an_open_order() {
    let (bed, folder) = (AcmeBed::new().await, TempDir::new());
    let (mut proxy, validation, _) = start_until_validation(&bed, &folder).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
    validation.release();
    assert_eq!(
        (calls(&folder), zone(&folder)),
        (vec!["set".to_owned(), "clean".to_owned()], String::new())
    );
    assert_eq!(bed.state_file()["dns_records"], serde_json::json!([]));
}

// Requirements: CK15.
#[tokio::test]
async fn next_order_removes_records_of_killed_process() {
    let (bed, folder) = (AcmeBed::new().await, TempDir::new());
    let (mut proxy, validation, keys) = start_until_validation(&bed, &folder).await;
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.exit().await, None);
    validation.release();
    assert_eq!(calls(&folder), ["set"]);
    // A record that is known from the stored state only.
    let left = serde_json::json!([{ "name": "_acme-challenge.old.example", "value": "left" }]);
    fs::write(folder.path().join("zone/_acme-challenge.old.example"), "left\n").unwrap();
    bed.edit_state(|state| {
        let noted = state["dns_records"].as_array_mut().unwrap();
        assert_eq!(noted.len(), 1, "the record of the killed process");
        noted.extend(left.as_array().unwrap().iter().cloned());
    });
    let proxy = bed.start(&keys).await;
    bed.wait_until_last_is_served(&proxy).await;
    assert_eq!(zone(&folder), "");
    assert_eq!(calls(&folder)[..3], ["set", "clean", "clean"]);
}
