//! A process whose configuration has no `[acme]`.

use std::collections::BTreeMap;
use std::fs;

use super::ca::Step;
use super::{AcmeBed, NAME};
use crate::support::Proxy;

/// The names of the threads, each with its number.
fn threads(proxy: &Proxy) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap() {
        let name = fs::read_to_string(thread.unwrap().path().join("comm")).unwrap();
        *names.entry(name.trim().to_owned()).or_default() += 1;
    }
    names
}

#[tokio::test]
async fn no_thread_connection_or_file_belongs_to_acme() {
    let bed = AcmeBed::new().await;
    let config = bed.config("");
    let (before, _) = config.split_once("[acme]").unwrap();
    let files = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n";
    let proxy = Proxy::start_bare(&format!("{before}{files}")).await;
    let names = threads(&proxy);
    assert!(!names.keys().any(|name| name.contains("acme")), "{names:?}");
    assert_eq!(bed.ca.count(Step::Directory), 0);
    assert_eq!(fs::read_dir(bed.state.path()).unwrap().count(), 0);
    let metrics = crate::support::get(proxy.admin().await, "/metrics").await.1;
    assert!(!String::from_utf8(metrics).unwrap().contains("tidegate_acme_"));

    // With it, there is something to be seen, so that this test would notice.
    let proxy = bed.start_and_issue().await;
    let metrics = crate::support::get(proxy.admin().await, "/metrics").await.1;
    assert!(String::from_utf8(metrics).unwrap().contains("tidegate_acme_"), "{NAME}");
}
