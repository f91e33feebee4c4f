//! Delays after failed orders, once the operator has changed what failed.

use std::fs;

use super::ca::{Fault, Problem, Step};
use super::challenges::hook;
use super::{AcmeBed, NAME, listed, logged};
use crate::support::TempDir;

// Requirements: CK10.
#[tokio::test]
async fn mended_hook_is_tried_at_once() {
    let (bed, folder) = (AcmeBed::new().await, TempDir::new());
    let path = hook(&folder, "[ -e \"$0.ok\" ] || { echo 'wrong password' >&2; exit 3; }");
    bed.ca.validate_dns_in(&folder.path().join("zone"));
    let keys = format!("challenge = \"dns-01\"\ndns_hook = {path:?}\n");
    let proxy = bed.start(&keys).await;
    listed(&proxy, "wrong password").await;
    drop(proxy);
    bed.edit_state(|state| state["backoff"]["delay"] = 28_800.into());
    // The delay holds while nothing has changed.
    let proxy = bed.start(&keys).await;
    listed(&proxy, "wrong password").await;
    fs::write(folder.path().join("hook.ok"), "").unwrap();
    let script = fs::read_to_string(&path).unwrap();
    let orders = bed.ca.count(Step::Order) + bed.ca.count(Step::NewOrder);
    assert_eq!(proxy.reload().await["level"], "INFO");
    listed(&proxy, "wrong password").await;
    assert_eq!(bed.ca.count(Step::Order) + bed.ca.count(Step::NewOrder), orders);
    // The program is another one.
    fs::write(&path, format!("{script}\n# mended\n")).unwrap();
    proxy.reload().await;
    let record = logged(&proxy, "settings of the failed order have changed").await;
    assert_eq!((&record["certificate"], &record["level"]), (&NAME.into(), &"INFO".into()));
    bed.wait_until_served(&proxy, 1).await;
}

// Requirements: CK10.
#[tokio::test]
async fn delays_belong_to_one_directory() {
    let bed = AcmeBed::new().await;
    let words = "The service is down for maintenance";
    let problem = Problem::new(503, "serverInternal", words).retry_after(86_400);
    bed.ca.fail_next(Step::Directory, Fault::Problem(problem));
    let proxy = bed.start("").await;
    listed(&proxy, words).await;
    drop(proxy);
    // Over a restart as well: the account's folder is that of the host.
    let other = format!("{}?other", bed.ca.directory());
    let config = bed.config("").replace(&bed.ca.directory(), &other);
    let proxy = crate::support::Proxy::start_bare(&config).await;
    bed.ca.validate_tls_at(proxy.address("tls").await);
    bed.wait_until_served(&proxy, 1).await;
}

// Requirements: CK10.
#[tokio::test]
async fn delays_begin_at_the_end_of_an_order() {
    let bed = AcmeBed::new().await;
    let words = "too slow today";
    let order = bed.ca.hold_next(Step::NewOrder);
    bed.ca.fail_always(Step::Authorization, Some(Fault::Problem(Problem::new(403, "caa", words))));
    let proxy = bed.start("").await;
    order.reached().await;
    let seconds = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let begun = seconds();
    while seconds() < begun + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    order.release();
    listed(&proxy, words).await;
    let failed = bed.state_file()["backoff"]["failed_at"].as_u64().unwrap();
    assert!(failed >= begun + 2, "{failed} {begun}");
}
