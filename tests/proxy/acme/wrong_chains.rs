//! Certificates that are not what was ordered: they are never used, nor stored in place of the old ones.

use std::fs;
use std::path::Path;

use super::ca::WrongChain;
use super::{AcmeBed, NAME, contains, listed, nth_failure, readiness, renew};

/// Chain and key as stored.
fn stored(folder: &Path) -> [Vec<u8>; 2] {
    ["chain.pem", "key.pem"].map(|name| fs::read(folder.join(name)).unwrap())
}

// Requirements: CK10.
#[tokio::test]
async fn wrong_certificates_are_rejected_and_reported() {
    let bed = AcmeBed::new().await;
    let names = format!("[[certificate]]\nacme = true\nnames = [\"{NAME}\", \"b.example\"]\n");
    let proxy = bed.start(&names).await;
    bed.wait_until_served(&proxy, 1).await;
    let before = stored(&bed.certificate_folder());
    for (n, (wrong, words)) in [
        (WrongChain::OtherKey, "not the key"),
        (WrongChain::OtherNames, "other.example"),
        (WrongChain::MissingName, NAME),
        (WrongChain::Expired, "valid only until"),
        (WrongChain::OtherIssuer, "issuer"),
        (WrongChain::OtherIssuerKey, "not signed by the one after it"),
        (WrongChain::Cut, "cut short"),
        (WrongChain::Empty, "no certificate"),
    ]
    .into_iter()
    .enumerate()
    {
        bed.ca.set(|settings| settings.wrong_chains = vec![wrong]);
        renew(&proxy).await;
        let record = nth_failure(&proxy, n + 1, &format!("{wrong:?}")).await;
        assert!(contains(&record, words), "{wrong:?}: {record}");
        assert_eq!(bed.served(&proxy).await.as_ref(), Some(&bed.ca.issued()[0].leaf), "{wrong:?}");
        assert_eq!(stored(&bed.certificate_folder()), before, "{wrong:?}");
        listed(&proxy, words).await;
    }
    assert_eq!(readiness(&proxy).await, 200);
    let issued = bed.ca.issued().len();
    renew(&proxy).await;
    bed.wait_until_served(&proxy, issued + 1).await;
    assert_ne!(stored(&bed.certificate_folder()), before);
}
