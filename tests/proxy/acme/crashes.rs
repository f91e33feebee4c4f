//! A process that is killed at any step of an order, and processes that share a folder.

use rustix::process::Signal;

use super::AcmeBed;
use super::ca::Step;
use crate::support::Proxy;

/// Starts a process and kills it while the CA's answer to this step is on its way.
async fn kill_at(step: Step, bed: &AcmeBed) {
    let answer = bed.ca.hold_next(step);
    let mut proxy = bed.start("").await;
    answer.reached().await;
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.exit().await, None);
    answer.release();
}

// Requirements: CK15.
#[tokio::test]
async fn killed_at_any_step_the_next_process_completes_the_order() {
    for step in Step::FIRST_ISSUE {
        let bed = AcmeBed::new().await;
        kill_at(step, &bed).await;
        let proxy = bed.start("").await;
        bed.wait_until_last_is_served(&proxy).await;
        // Lost are only orders whose URL never arrived, and those whose validation failed because the
        // process was killed.
        let is_lost = matches!(step, Step::NewOrder | Step::Challenge | Step::Validation);
        let orders = bed.ca.with_data(|data| data.orders.len());
        assert!(orders <= 1 + usize::from(is_lost), "{step:?}: {orders} orders");
        assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 1, "{step:?}");
    }
}

// Requirements: CK15.
#[tokio::test]
async fn killed_again_and_again_the_order_is_completed() {
    let bed = AcmeBed::new().await;
    for step in Step::FIRST_ISSUE {
        kill_at(step, &bed).await;
    }
    let proxy = bed.start("").await;
    bed.wait_until_last_is_served(&proxy).await;
    let orders = bed.ca.with_data(|data| data.orders.len());
    assert!(orders <= 4, "{orders} orders");
    assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 1);
}

// Requirements: CK11.
#[tokio::test]
async fn two_processes_on_one_folder_order_once() {
    let bed = AcmeBed::new().await;
    let order = bed.ca.hold_next(Step::NewOrder);
    let first = bed.start("").await;
    order.reached().await;
    // The second one starts while the first one orders, and has to wait for its certificate.
    let second = Proxy::start_bare(&bed.config("")).await;
    order.release();
    bed.wait_until_served(&first, 1).await;
    bed.wait_until_served(&second, 1).await;
    assert_eq!((bed.ca.count(Step::NewAccount), bed.ca.count(Step::NewOrder)), (1, 1));
}

// Requirements: CK15.
#[tokio::test]
async fn torn_files_are_replaced() {
    for (file, text) in [
        ("state.json", "{\"ord"),
        ("chain.pem", "-----BEGIN CERTIFICATE-----\nMIIB"),
        ("key.pem", ""),
        ("account.json", "\0\0\0"),
    ] {
        let bed = AcmeBed::new().await;
        drop(bed.start_and_issue().await);
        let is_account = file.starts_with("account");
        let folder = if is_account { bed.account_folder() } else { bed.certificate_folder() };
        std::fs::write(folder.join(file), text).unwrap();
        if file.ends_with(".pem") {
            // A new certificate may be in use only a moment later.
            bed.edit_state(|state| state["issued_at"] = 1.into());
        }
        let proxy = bed.start("").await;
        let is_valid = file.ends_with(".json");
        bed.wait_until_served(&proxy, if is_valid { 1 } else { 2 }).await;
        assert_eq!(bed.ca.with_data(|data| data.accounts.len()), 1, "{file}");
    }
}
