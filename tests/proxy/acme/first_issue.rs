//! The first certificate: what is ordered, and how it is stored.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ca::{Fault, Problem, Step};
use super::{AcmeBed, NAME, ctl, logged};
use crate::support::{TempDir, assert_relays};

#[tokio::test]
async fn route_with_host_gets_a_certificate() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start("email = \"admin@a.example\"\n").await;
    bed.wait_until_served(&proxy, 1).await;
    let (mut tunnel, mut backend) = bed.open(&proxy).await;
    assert_relays(&mut tunnel, &mut backend).await;
    let (contact, names) = bed.ca.with_data(|data| {
        (data.accounts[0].contact.clone(), data.orders[0].names.iter().cloned().collect::<Vec<_>>())
    });
    assert_eq!(contact, serde_json::json!(["mailto:admin@a.example"]));
    assert_eq!(names, [NAME]);
    assert_eq!((bed.ca.count(Step::NewAccount), bed.ca.count(Step::NewOrder)), (1, 1));
}

#[tokio::test]
async fn certificate_with_several_names_is_one_order() {
    let bed = AcmeBed::new().await;
    let names = ["a.example", "b.example", "c.example"];
    let table = format!("[[certificate]]\nacme = true\nnames = {names:?}\n");
    let proxy = bed.start(&table).await;
    bed.wait_until_served(&proxy, 1).await;
    for name in names {
        bed.connect(&proxy, name, &[]).await.unwrap();
    }
    assert_eq!((bed.ca.count(Step::NewOrder), bed.ca.issued().len()), (1, 1));
}

// Requirements: CK16.
#[tokio::test]
async fn stored_files_are_readable_by_their_owner_only() {
    let bed = AcmeBed::new().await;
    let _proxy = bed.start_and_issue().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut seen = Vec::new();
    let mut folders = vec![bed.state.path().join("acme")];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen.push(path);
            }
        }
    }
    let certificate = ["chain.pem", "key.pem", "state.json"];
    let certificate = certificate.map(|name| bed.certificate_folder().join(name));
    let account = ["account.key", "account.json"].map(|name| bed.account_folder().join(name));
    for file in certificate.iter().chain(&account) {
        assert!(seen.contains(file), "{} is not in {seen:?}", file.display());
    }
}

#[tokio::test]
async fn restart_serves_the_stored_certificate_without_an_order() {
    let bed = AcmeBed::new().await;
    drop(bed.start_and_issue().await);
    // Any request to the CA but the questions when to renew would be one too many.
    let proxy = bed.start("").await;
    assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf));
    // The second process has looked at its certificates once it answers commands.
    ctl(&proxy, &["certs"]).await;
    assert_eq!((bed.ca.count(Step::NewAccount), bed.ca.count(Step::NewOrder)), (1, 1));
}

#[tokio::test]
async fn external_account_is_bound() {
    let bed = AcmeBed::new().await;
    bed.ca.set(|settings| drop(settings.external_accounts.insert("kid-7".into(), vec![9; 32])));
    let folder = TempDir::new();
    folder.write("eab.key", data_encoding::BASE64URL_NOPAD.encode(&[9; 32]));
    let keys = format!(
        "eab_key_id = \"kid-7\"\neab_key_file = {:?}\n",
        folder.path().join("eab.key").display().to_string()
    );
    let proxy = bed.start(&keys).await;
    bed.wait_until_served(&proxy, 1).await;
    let external = bed.ca.with_data(|data| data.accounts[0].external.clone());
    assert_eq!(external.as_deref(), Some("kid-7"));
}

#[tokio::test]
async fn missing_external_account_is_reported() {
    let bed = AcmeBed::new().await;
    bed.ca.set(|settings| drop(settings.external_accounts.insert("kid-7".into(), vec![9; 32])));
    let proxy = bed.start("").await;
    logged(&proxy, "this CA needs an external account binding").await;
    assert_eq!(bed.served(&proxy).await, None);
}

#[tokio::test]
async fn profile_is_requested() {
    let bed = AcmeBed::new().await;
    bed.ca.set(|settings| settings.profiles = vec!["classic", "shortlived"]);
    let proxy = bed.start("profile = \"shortlived\"\n").await;
    bed.wait_until_served(&proxy, 1).await;
    let profile = bed.ca.with_data(|data| data.orders[0].profile.clone());
    assert_eq!(profile.as_deref(), Some("shortlived"));
}

#[tokio::test]
async fn unknown_profile_is_reported() {
    let bed = AcmeBed::new().await;
    bed.ca.set(|settings| settings.profiles = vec!["classic"]);
    let proxy = bed.start("profile = \"shortlived\"\n").await;
    // Either the proxy reads the directory, or the CA says so.
    logged(&proxy, "shortlived").await;
    assert_eq!(bed.ca.issued().len(), 0);
}

// Requirements: CK17.
#[tokio::test]
async fn bad_nonces_are_retried_at_every_step() {
    let bed = AcmeBed::new().await;
    for step in Step::FIRST_ISSUE {
        if !matches!(step, Step::Directory | Step::NewNonce | Step::Validation) {
            let problem = Problem::new(400, "badNonce", "JWS has an invalid anti-replay nonce");
            bed.ca.fail_next(step, Fault::Problem(problem));
        }
    }
    let proxy = bed.start("").await;
    bed.wait_until_served(&proxy, 1).await;
    // Nothing but the rejected requests was sent again.
    let counts = [Step::NewAccount, Step::NewOrder, Step::Finalize].map(|step| bed.ca.count(step));
    assert_eq!((counts, bed.ca.with_data(|data| data.orders.len())), ([2; 3], 1));
}

#[tokio::test]
async fn many_certificates_are_ordered_one_after_another() {
    let bed = AcmeBed::new().await;
    let host = |n: usize| format!("h{n}.example");
    let route = |n: usize| {
        let host = host(n);
        format!("[[route]]\nhost = \"{host}\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n")
    };
    let order = bed.ca.hold_next(Step::NewOrder);
    let proxy = bed.start(&(1..20).map(route).collect::<String>()).await;
    order.reached().await;
    // All of them are due, and wait for the first one.
    let listed = ctl(&proxy, &["certs"]).await;
    assert_eq!(listed.matches("acme").count(), 20, "{listed}");
    assert_eq!((bed.ca.count(Step::NewOrder), bed.ca.count(Step::NewAccount)), (1, 1));
    order.release();
    bed.ca.issues(20).await;
    assert_eq!((bed.ca.count(Step::NewOrder), bed.ca.count(Step::NewAccount)), (20, 1));
}
