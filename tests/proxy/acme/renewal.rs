//! Renewal: when, and that clients do not notice.

use std::time::Duration;

use super::ca::{Fault, RenewalWindow, Step};
use super::{AcmeBed, renew};
use crate::support::{Record, assert_relays, close_normally, within_timeout};

// Requirements: CK18.
#[tokio::test]
async fn renewal_keeps_tunnels_open() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let (mut tunnel, mut backend) = bed.open(&proxy).await;
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    assert_relays(&mut tunnel, &mut backend).await;
    close_normally(tunnel, backend).await;
    // The same account, and a new key.
    let keys: Vec<_> = bed.ca.issued().iter().map(|issued| public_key(&issued.leaf)).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!((bed.ca.count(Step::NewAccount), bed.ca.count(Step::NewOrder)), (1, 2));
}

fn public_key(leaf: &[u8]) -> Vec<u8> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    leaf.public_key().raw.to_vec()
}

// Requirements: CK18.
#[tokio::test]
async fn renewal_information_of_the_ca_decides_the_time() {
    let bed = AcmeBed::new().await;
    let later = RenewalWindow { start: 50 * 86_400, end: 51 * 86_400, ask_again: 3600 };
    bed.ca.set(|settings| settings.renewal = Some(later));
    let proxy = bed.start_and_issue().await;
    within_timeout("the renewal time to be stored", async {
        while bed.state_file()["renewal_info_at"].as_u64().is_none_or(|at| at == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(proxy);
    assert_eq!(bed.ca.count(Step::NewOrder), 1);
    // The CA wants all certificates to be replaced, for example because it must revoke them.
    let past = RenewalWindow { start: -7200, end: -3600, ask_again: 3600 };
    bed.ca.set(|settings| settings.renewal = Some(past));
    // A day later, the proxy may ask again, and renew.
    bed.edit_state(|state| {
        for key in ["issued_at", "renewal_info_at"] {
            state[key] = (state[key].as_u64().unwrap() - 86_400).into();
        }
    });
    let proxy = bed.start("").await;
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.ca.count(Step::RenewalInfo), 2);
    let (replaced, first) = bed
        .ca
        .with_data(|data| (data.orders[1].replaces.clone(), data.issued[0].renewal_id.clone()));
    assert_eq!(replaced, Some(first));
}

#[tokio::test]
async fn failing_renewal_information_changes_nothing() {
    let bed = AcmeBed::new().await;
    let later = RenewalWindow { start: 50 * 86_400, end: 51 * 86_400, ask_again: 3600 };
    bed.ca.set(|settings| settings.renewal = Some(later));
    bed.ca.fail_always(Step::RenewalInfo, Some(Fault::Page(500)));
    let proxy = bed.start_and_issue().await;
    bed.ca.reached(Step::RenewalInfo, 1).await;
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.ca.count(Step::NewOrder), 2);
}

// Requirements: CK18.
#[tokio::test]
async fn old_certificates_are_renewed_before_they_expire() {
    let bed = AcmeBed::new().await;
    // Renewed when 100 to 110 s are left, which is in 5 s at most.
    bed.ca.set(|settings| {
        (settings.lifetime, settings.age) = (Duration::from_secs(300), Duration::from_secs(195));
    });
    drop(bed.start_and_issue().await);
    // It is not as new as it was.
    bed.edit_state(|state| state["issued_at"] = 1.into());
    bed.ca.set(|settings| settings.age = Duration::ZERO);
    let proxy = bed.start("").await;
    let (mut tunnel, mut backend) = bed.open(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    assert_relays(&mut tunnel, &mut backend).await;
    let [first, second] = [0, 1].map(|n| bed.ca.issued()[n].leaf.clone());
    assert!(valid_from(&second) < valid_until(&first), "renewed too late");
    assert_eq!(bed.ca.count(Step::NewOrder), 2);
}

fn valid_from(leaf: &[u8]) -> i64 {
    x509_parser::parse_x509_certificate(leaf).unwrap().1.validity().not_before.timestamp()
}

fn valid_until(leaf: &[u8]) -> i64 {
    x509_parser::parse_x509_certificate(leaf).unwrap().1.validity().not_after.timestamp()
}

/// Takes about seven minutes: `cargo test --release --test proxy minute -- --ignored --nocapture`.
// Requirements: CK18.
#[tokio::test]
#[ignore = "takes seven minutes"]
async fn minute_certificates_renew_ten_times_under_500_tunnels() {
    let bed = AcmeBed::new().await;
    bed.ca.set(|settings| settings.lifetime = Duration::from_secs(60));
    let proxy = bed.start_and_issue().await;
    let mut tunnels = Vec::new();
    for _ in 0..500 {
        tunnels.push(bed.open(&proxy).await);
    }
    for renewal in 1..=10 {
        // Each wait may last most of the certificate's life.
        bed.wait_until_served(&proxy, renewal + 1).await;
        for (tunnel, backend) in &mut tunnels {
            assert_relays(tunnel, backend).await;
        }
    }
    assert_eq!(bed.ca.count(Step::NewOrder), bed.ca.issued().len());
    let ended = proxy.outcomes().into_iter().filter(|record| record["event"] == "ended");
    assert_eq!(ended.collect::<Vec<_>>(), [] as [Record; 0]);
}
