//! What the CA does wrong during a renewal: the old certificate stays, and the operator reads why.

use std::fs;

use super::ca::{Fault, Problem, Step};
use super::{
    AcmeBed, NAME, contains, ctl, listed, logged, nth_failure, readiness, renew, status_of,
};
use crate::support::{Backend, Proxy, Record, within_timeout};

/// Asserts that the first certificate is served, and that `ctl certs` shows the error.
async fn assert_first_stays(bed: &AcmeBed, proxy: &Proxy, words: &str) {
    assert_eq!(bed.served(proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf), "{words}");
    listed(proxy, words).await;
    assert_eq!(readiness(proxy).await, 200);
}

// Requirements: CK10.
#[tokio::test]
async fn errors_of_the_ca_are_reported_in_its_words() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    // The order is continued by the next attempt, so they are in the order of the steps.
    let refusals = [
        (
            Step::NewOrder,
            429,
            "rateLimited",
            "too many certificates (5) already issued for this set",
        ),
        (
            Step::NewOrder,
            400,
            "rejectedIdentifier",
            "the CA does not issue for \"a.example\": policy",
        ),
        (
            Step::NewOrder,
            503,
            "serverInternal",
            "The service is down for maintenance or had an error",
        ),
        (Step::NewOrder, 403, "caa", "CAA record for a.example prevents issuance"),
        (Step::Authorization, 500, "serverInternal", "Error loading the authorization"),
        (Step::Challenge, 403, "unauthorized", "the challenge is owned by another account"),
        (Step::Finalize, 400, "badCSR", "the signing request has a weak key"),
        (Step::Certificate, 500, "serverInternal", "the certificate is not here yet"),
    ];
    for (n, (step, status, kind, words)) in refusals.into_iter().enumerate() {
        bed.ca.fail_always(step, Some(Fault::Problem(Problem::new(status, kind, words))));
        renew(&proxy).await;
        let record = nth_failure(&proxy, n + 1, words).await;
        assert!(contains(&record, words), "{record}");
        assert_first_stays(&bed, &proxy, words).await;
        bed.ca.fail_always(step, None);
    }
    renew(&proxy).await;
    bed.wait_until_last_is_served(&proxy).await;
    assert_eq!(bed.ca.issued().len(), 2);
    within_timeout("the error to be forgotten", async {
        while ctl(&proxy, &["certs"]).await.contains("the certificate is not here yet") {}
    })
    .await;
}

// Requirements: CK10.
#[tokio::test]
async fn unusable_answers_keep_the_old_certificate() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    // The account is known by now.
    let steps =
        [Step::NewOrder, Step::Authorization, Step::Challenge, Step::Finalize, Step::Certificate];
    let mut failures = 0;
    for step in steps {
        for fault in [Fault::HalfAnswer, Fault::Disconnect, Fault::Page(200), Fault::Page(502)] {
            let what = format!("{step:?} {fault:?}");
            let before = bed.served(&proxy).await;
            bed.ca.fail_always(step, Some(fault));
            renew(&proxy).await;
            failures += 1;
            nth_failure(&proxy, failures, &what).await;
            assert_eq!(bed.served(&proxy).await, before, "{what}");
            bed.ca.fail_always(step, None);
            renew(&proxy).await;
            // The first issue is the first success.
            let is_success = |record: &Record| record["message"] == "ACME: certificate issued";
            proxy.nth_record(&what, failures + 1, is_success).await;
            bed.wait_until_last_is_served(&proxy).await;
            assert_ne!(bed.served(&proxy).await, before, "{what}");
        }
    }
    assert_eq!(readiness(&proxy).await, 200);
}

// Requirements: CK10.
#[tokio::test]
async fn ca_that_is_away_does_not_disturb() {
    let bed = AcmeBed::new().await;
    let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let address = bed.backend.address().to_string();
    let config = bed.config("").replace(&address, &backend.address.to_string());
    let proxy = Proxy::start_bare(&config).await;
    bed.ca.validate_tls_at(proxy.address("tls").await);
    bed.wait_until_served(&proxy, 1).await;
    for step in [Step::Directory, Step::NewNonce, Step::NewOrder] {
        bed.ca.fail_always(step, Some(Fault::Disconnect));
    }
    renew(&proxy).await;
    nth_failure(&proxy, 1, "the CA is away").await;
    let stream = bed.connect(&proxy, NAME, &[]).await.unwrap();
    assert_eq!(status_of(stream, NAME).await, 200);
    // A restart serves the stored certificate without the CA.
    drop(proxy);
    let proxy = Proxy::start_bare(&config).await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    assert_eq!(readiness(&proxy).await, 200);
}

// Requirements: CK10.
#[tokio::test]
async fn retry_after_holds_over_a_restart() {
    let bed = AcmeBed::new().await;
    let words = "too many new orders (300) from this account in the last 3h";
    let problem = Problem::new(429, "rateLimited", words).retry_after(86_400);
    bed.ca.fail_next(Step::NewOrder, Fault::Problem(problem));
    let proxy = bed.start("").await;
    logged(&proxy, words).await;
    listed(&proxy, words).await;
    drop(proxy);
    let proxy = bed.start("").await;
    // The scheduler has looked at the certificate once it can list it; the next order would pass.
    listed(&proxy, words).await;
    assert_eq!((bed.ca.count(Step::NewOrder), bed.ca.issued().len()), (1, 0));
}

// Requirements: CK10.
#[tokio::test]
async fn deactivated_account_is_replaced_and_reported() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let first_key = fs::read(bed.account_folder().join("account.key")).unwrap();
    bed.ca.deactivate_accounts();
    renew(&proxy).await;
    let record = logged(&proxy, "the ACME account was deactivated").await;
    assert_eq!(record["level"], "WARN", "{record}");
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 2);
    assert_ne!(fs::read(bed.account_folder().join("account.key")).unwrap(), first_key);
    // The new account is used from then on.
    drop(proxy);
    let proxy = bed.start("").await;
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 3).await;
    assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 2);
}

// Requirements: CK10.
#[tokio::test]
async fn lost_account_key_is_replaced_with_its_account() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    fs::remove_file(bed.account_folder().join("account.key")).unwrap();
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 2);
}

// Requirements: CK10.
#[tokio::test]
async fn changed_email_does_not_fail_an_order() {
    let bed = AcmeBed::new().await;
    drop(bed.start_and_issue().await);
    // Deactivated, forgotten, and rejected for another reason.
    bed.ca.deactivate_accounts();
    let proxy = bed.start("email = \"first@a.example\"\n").await;
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    drop(proxy);
    assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 2);
    bed.ca.with_data(|data| data.accounts.clear());
    let proxy = bed.start("email = \"second@a.example\"\n").await;
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 3).await;
    drop(proxy);
    let contact = |bed: &AcmeBed| bed.ca.with_data(|data| data.accounts[0].contact.to_string());
    assert_eq!(contact(&bed), "[\"mailto:second@a.example\"]");
    let words = "the contact has an invalid domain";
    let rejected = Fault::Problem(Problem::new(400, "invalidContact", words));
    bed.ca.fail_always(Step::Account, Some(rejected));
    let proxy = bed.start("email = \"third@a.example\"\n").await;
    renew(&proxy).await;
    let record = logged(&proxy, words).await;
    assert_eq!(record["level"], "WARN", "{record}");
    bed.wait_until_served(&proxy, 4).await;
    bed.ca.fail_always(Step::Account, None);
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 5).await;
    assert_eq!(contact(&bed), "[\"mailto:third@a.example\"]");
}

// Requirements: CK10.
#[tokio::test]
async fn slow_ca_keeps_the_old_certificate_meanwhile() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    for (renewals, step) in [Step::NewOrder, Step::Finalize, Step::Certificate].iter().enumerate() {
        let answer = bed.ca.hold_next(*step);
        renew(&proxy).await;
        answer.reached().await;
        let current = bed.ca.issued()[renewals].leaf.clone();
        assert_eq!(bed.served(&proxy).await, Some(current));
        assert_eq!(readiness(&proxy).await, 200);
        answer.release();
        bed.wait_until_served(&proxy, renewals + 2).await;
    }
}
