//! Folders that cannot be written: the certificate that is there keeps serving.

use std::fs;
use std::process::Command;

use super::{AcmeBed, NAME, contains, listed, logged, renew};
use crate::support::{Proxy, Record};

#[expect(clippy::print_stderr, reason = "reports the skipped test")]
fn is_permitted() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).status();
    let is_permitted = tried.is_ok_and(|status| status.success());
    if !is_permitted {
        eprintln!("skipped: creating a mount namespace is not permitted here");
    }
    is_permitted
}

/// Starts a proxy after these shell commands in a mount namespace of its own.
async fn start_under(bed: &AcmeBed, before: &str) -> Proxy {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{before} && exec \"$0\" \"$@\"")]);
    let mut proxy = Proxy::spawn_by(command, &bed.config(""));
    proxy.ready().await;
    bed.ca.validate_tls_at(proxy.address("tls").await);
    proxy
}

// Requirements: RE20.
#[tokio::test]
async fn read_only_folder_keeps_the_stored_certificate() {
    if !is_permitted() {
        return;
    }
    let bed = AcmeBed::new().await;
    drop(bed.start_and_issue().await);
    let state = bed.state.path().display();
    let script = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}");
    let proxy = start_under(&bed, &script).await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    renew(&proxy).await;
    let record = logged(&proxy, "Read-only file system").await;
    assert!(record.to_string().contains(&bed.state.path().display().to_string()), "{record}");
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    // What could not be stored is not ordered.
    assert_eq!(bed.ca.issued().len(), 1);
}

// Requirements: RE20.
#[tokio::test]
async fn full_disk_keeps_the_stored_certificate() {
    if !is_permitted() {
        return;
    }
    let bed = AcmeBed::new().await;
    drop(bed.start_and_issue().await);
    let state = bed.state.path().display();
    // A file system of 64 KiB with the stored files, filled up by one more file.
    let script = format!(
        "cp -a {state}/acme $PWD/kept && mount -t tmpfs -o size=64k none {state} && \
         cp -a $PWD/kept {state}/acme && {{ cat /dev/zero >{state}/full 2>/dev/null; true; }}"
    );
    let proxy = start_under(&bed, &script).await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    renew(&proxy).await;
    logged(&proxy, "No space left on device").await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    // Once there is space, the next attempt succeeds.
    let inside = format!("/proc/{}/root{state}/full", proxy.pid());
    fs::remove_file(inside).unwrap();
    let issued = bed.ca.issued().len();
    renew(&proxy).await;
    bed.ca.issues(issued.max(2)).await;
    let last = bed.ca.issued().len();
    bed.wait_until_served(&proxy, last).await;
}

// Requirements: CK10.
#[tokio::test]
async fn unreadable_file_of_the_operator_does_not_delay_an_issued_certificate() {
    let bed = AcmeBed::new().await;
    let files = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
                 [[route]]\nhost = \"localhost\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    let proxy = bed.start(files).await;
    bed.wait_until_served(&proxy, 1).await;
    fs::remove_file(proxy.folder().join("key.pem")).unwrap();
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    let rejected = logged(&proxy, "changed certificates rejected").await;
    assert_eq!(rejected["level"], "ERROR", "{rejected}");
    assert!(contains(&rejected, "key.pem"), "{rejected}");
}

#[tokio::test]
async fn folder_that_is_missing_is_created_or_reported() {
    let bed = AcmeBed::new().await;
    let state = format!("{:?}", bed.state.path());
    let missing = bed.state.path().join("a/b");
    let config = bed.config("").replace(&state, &format!("{missing:?}"));
    let proxy = Proxy::start_bare(&config).await;
    bed.ca.validate_tls_at(proxy.address("tls").await);
    bed.wait_until_served(&proxy, 1).await;
    assert!(missing.join("acme/certificates").join(NAME).join("chain.pem").exists());

    let bed = AcmeBed::new().await;
    bed.state.write("file", "");
    let impossible = bed.state.path().join("file/b");
    let state = format!("{:?}", bed.state.path());
    let config = bed.config("").replace(&state, &format!("{impossible:?}"));
    let proxy = Proxy::start_bare(&config).await;
    let is_failure = |record: &Record| contains(record, "Not a directory");
    let record = proxy.record("the folder", is_failure).await;
    assert!(record.to_string().contains("file/b"), "{record}");
    listed(&proxy, "Not a directory").await;
}
