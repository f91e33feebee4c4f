//! Names of a certificate that are changed: what they had before is served until the new one is issued.

use rustls::pki_types::CertificateDer;

use super::ca::Step;
use super::{AcmeBed, NAME, contains, ctl, readiness};
use crate::support::{Proxy, within_timeout};

fn table(names: &[&str]) -> String {
    format!("[[certificate]]\nacme = true\nnames = {names:?}\n")
}

/// The trusted certificate that is served for this name; `None` if there is none.
async fn served(bed: &AcmeBed, proxy: &Proxy, name: &str) -> Option<CertificateDer<'static>> {
    let stream = bed.connect(proxy, name, &[]).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
}

/// Waits until the certificate that was issued last is served for this name.
async fn last_is_served(bed: &AcmeBed, proxy: &Proxy, name: &str) {
    within_timeout("the new certificate", async {
        while served(bed, proxy, name).await != bed.ca.issued().last().map(|of| of.leaf.clone()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

// Requirements: CK18.
#[tokio::test]
async fn reordered_names_keep_their_certificate_over_a_reload() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start(&table(&[NAME, "b.example"])).await;
    bed.wait_until_served(&proxy, 1).await;
    let first = Some(bed.ca.issued()[0].leaf.clone());
    let order = bed.ca.hold_next(Step::NewOrder);
    proxy.rewrite(&bed.config(&table(&["c.example", "b.example", NAME])));
    let reloaded = proxy.reload().await;
    assert!(contains(&reloaded, "reloaded; open tunnels"), "{reloaded}");
    order.reached().await;
    for name in [NAME, "b.example"] {
        assert_eq!(served(&bed, &proxy, name).await, first, "{name}");
    }
    assert_eq!(served(&bed, &proxy, "c.example").await, None);
    order.release();
    bed.ca.issues(2).await;
    for name in [NAME, "b.example", "c.example"] {
        last_is_served(&bed, &proxy, name).await;
    }
}

// Requirements: CK18.
#[tokio::test]
async fn reordered_names_keep_their_certificate_over_a_restart() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start(&table(&[NAME, "b.example"])).await;
    bed.wait_until_served(&proxy, 1).await;
    drop(proxy);
    let first = Some(bed.ca.issued()[0].leaf.clone());
    let order = bed.ca.hold_next(Step::NewOrder);
    let proxy = bed.start(&table(&["b.example", NAME])).await;
    order.reached().await;
    for name in [NAME, "b.example"] {
        assert_eq!(served(&bed, &proxy, name).await, first, "{name}");
    }
    assert_eq!(readiness(&proxy).await, 200);
    let listed = ctl(&proxy, &["certs"]).await;
    let line = listed.lines().find(|line| line.contains("b.example")).unwrap();
    assert!(line.contains("89d23h"), "{listed}");
    order.release();
    bed.ca.issues(2).await;
    for name in [NAME, "b.example"] {
        last_is_served(&bed, &proxy, name).await;
    }
}

// Requirements: CK18, CK19.
#[tokio::test]
async fn stored_certificates_come_before_a_self_signed_one() {
    let bed = AcmeBed::new().await;
    let both = [table(&[NAME]), table(&["b.example"])].concat();
    let proxy = bed.start(&both).await;
    bed.ca.issues(2).await;
    for name in [NAME, "b.example"] {
        within_timeout(name, async { while served(&bed, &proxy, name).await.is_none() {} }).await;
    }
    let before = [served(&bed, &proxy, NAME).await, served(&bed, &proxy, "b.example").await];
    drop(proxy);
    let order = bed.ca.hold_next(Step::NewOrder);
    let merged = table(&["c.example", "b.example", NAME]);
    let proxy = bed.start(&format!("until_issued = \"self-signed\"\n{merged}")).await;
    order.reached().await;
    let after = [served(&bed, &proxy, NAME).await, served(&bed, &proxy, "b.example").await];
    assert_eq!(after, before);
    assert_eq!(served(&bed, &proxy, "c.example").await, None);
    order.release();
    bed.ca.issues(3).await;
    last_is_served(&bed, &proxy, NAME).await;
    last_is_served(&bed, &proxy, "c.example").await;
}
