//! How the CA validates names: over TLS, over HTTP, and by a hook that changes DNS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::ca::validation::ACME_TLS;
use super::ca::{Fault, Gatekeeper, Problem, Step};
use super::{AcmeBed, NAME, listed, logged, renew, status_of};
use crate::support::{Proxy, TempDir, exchange, get, trust_any_certificate_with, within_timeout};

/// Which certificate a client that offers these protocols gets, trusted or not; `None` if the handshake
/// fails.
async fn any_certificate(proxy: &Proxy, name: &str, protocols: &[&[u8]]) -> Option<Vec<u8>> {
    let stream = TcpStream::connect(proxy.address("tls").await).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = trust_any_certificate_with(protocols);
    let stream = within_timeout("TLS", connector.connect(name, stream)).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

// Requirements: CK14.
#[tokio::test]
async fn only_acme_tls_clients_see_the_challenge() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let issued = bed.ca.issued()[0].leaf.to_vec();
    let validation = bed.ca.hold_next(Step::Validation);
    renew(&proxy).await;
    validation.reached().await;
    let challenge = any_certificate(&proxy, NAME, &[ACME_TLS]).await.unwrap();
    assert_ne!(challenge, issued);
    let (h2, http1): (&[u8], &[u8]) = (b"h2", b"http/1.1");
    for protocols in [vec![], vec![h2], vec![http1], vec![h2, http1]] {
        assert_eq!(any_certificate(&proxy, NAME, &protocols).await.as_ref(), Some(&issued));
    }
    // Offering it together with others is not a validation (RFC 8737 3).
    let mixed = any_certificate(&proxy, NAME, &[ACME_TLS, http1]).await;
    assert_ne!(mixed.as_ref(), Some(&challenge));
    assert_eq!(any_certificate(&proxy, "other.example", &[ACME_TLS]).await, None);
    validation.release();
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(any_certificate(&proxy, NAME, &[ACME_TLS]).await, None);
}

// Requirements: CK14.
#[tokio::test]
async fn challenge_is_answered_while_http2_is_served() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let h2 = bed.connect(&proxy, NAME, &[b"h2"]).await.unwrap();
    assert_eq!(h2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    renew(&proxy).await;
    bed.wait_until_served(&proxy, 2).await;
    assert_eq!(bed.ca.count(Step::Validation), 2);
}

/// A plain listener that redirects, as on port 80.
const REDIRECT: &str = "[[listener]]\nname = \"port80\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
                        redirect = \"https\"\n";

#[tokio::test]
async fn http_challenge_is_answered_on_the_redirect_listener() {
    let bed = AcmeBed::new().await;
    let keys = format!("challenge = \"http-01\"\n{REDIRECT}");
    let validation = bed.ca.hold_next(Step::Validation);
    let proxy = bed.start(&keys).await;
    let address = proxy.address("port80").await;
    bed.ca.validate_http_at(address);
    validation.reached().await;
    let token = bed.ca.with_data(|data| data.authorizations[0].token.clone());
    let path = format!("/.well-known/acme-challenge/{token}");
    let ask = async |host: &str, path: &str| {
        let mut stream = tokio::io::BufReader::new(TcpStream::connect(address).await.unwrap());
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(&mut stream, &request).await
    };
    let (answer, body) = ask(NAME, &path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(String::from_utf8(body).unwrap().starts_with(&format!("{token}.")));
    // Everything else is redirected or routed, as without [acme].
    assert_ne!(ask(NAME, &format!("{path}x")).await.0.status, 200);
    assert_eq!(ask(NAME, "/page").await.0.status, 308);
    validation.release();
    bed.wait_until_served(&proxy, 1).await;
    assert_ne!(ask(NAME, &path).await.0.status, 200);
}

// Requirements: CK10.
#[tokio::test]
async fn failed_validation_is_reported_in_the_words_of_the_ca() {
    let bed = AcmeBed::new().await;
    let words = "During secondary validation: 203.0.113.7: Timeout during connect (likely firewall problem)";
    bed.ca.fail_always(
        Step::Validation,
        Some(Fault::Problem(Problem::new(400, "connection", words))),
    );
    let proxy = bed.start("").await;
    let record = logged(&proxy, words).await;
    assert!(record.to_string().contains(NAME), "{record}");
    listed(&proxy, words).await;
    assert_eq!(bed.ca.issued().len(), 0);
}

/// A hook that keeps TXT records in files, as the CA reads them, and lists its calls.
pub fn hook(folder: &TempDir, more: &str) -> PathBuf {
    let zone = folder.path().join("zone");
    fs::create_dir(&zone).unwrap();
    let script = format!(
        "#!/bin/sh\nset -eu\necho \"$1 $2\" >>{calls:?}\n{more}\ncase $1 in\n\
         set) echo \"$3\" >>{zone:?}/\"$2\" ;;\n\
         clean) sed -i \"/^$3\\$/d\" {zone:?}/\"$2\" ;;\nesac\n",
        calls = folder.path().join("calls"),
    );
    let path = folder.path().join("hook");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn hook_sets_and_removes_dns_records() {
    let bed = AcmeBed::new().await;
    let folder = TempDir::new();
    let path = hook(&folder, "");
    bed.ca.validate_dns_in(&folder.path().join("zone"));
    let keys = format!(
        "challenge = \"dns-01\"\ndns_hook = {path:?}\n\
         [[certificate]]\nacme = true\nnames = [\"*.wild.example\", \"wild.example\", \"{NAME}\"]\n"
    );
    let proxy = bed.start(&keys).await;
    bed.wait_until_served(&proxy, 1).await;
    bed.connect(&proxy, "b.wild.example", &[]).await.unwrap();
    let calls = within_timeout("the hook to clean up", async {
        loop {
            let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
            if calls.matches("clean ").count() == 3 {
                return calls;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    // The wildcard and its parent have the same record name, with two values at the same time.
    assert_eq!(calls.matches("set _acme-challenge.wild.example").count(), 2, "{calls}");
    assert_eq!(calls.matches("set _acme-challenge.a.example").count(), 1, "{calls}");
    for file in fs::read_dir(folder.path().join("zone")).unwrap() {
        assert_eq!(fs::read_to_string(file.unwrap().path()).unwrap(), "");
    }
}

// Requirements: CK10.
#[tokio::test]
async fn failing_hook_is_reported_with_its_output() {
    let bed = AcmeBed::new().await;
    let folder = TempDir::new();
    let path = hook(&folder, "echo 'no permission for this zone' >&2; exit 3");
    bed.ca.validate_dns_in(&folder.path().join("zone"));
    let proxy = bed.start(&format!("challenge = \"dns-01\"\ndns_hook = {path:?}\n")).await;
    let record = logged(&proxy, "no permission for this zone").await;
    assert!(record.to_string().contains(&path.display().to_string()), "{record}");
    assert_eq!((bed.ca.count(Step::Validation), bed.ca.issued().len()), (0, 0));
    assert_eq!(get(proxy.admin().await, "/healthz").await.0.status, 200);
}

#[tokio::test]
async fn slow_validation_does_not_delay_requests() {
    let bed = AcmeBed::new().await;
    let proxy = bed.start_and_issue().await;
    let validation: Gatekeeper = bed.ca.hold_next(Step::Validation);
    renew(&proxy).await;
    validation.reached().await;
    let backend =
        crate::support::Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let from = format!("{}", bed.backend.address());
    assert_eq!(proxy.reload_with(&from, &backend.address.to_string()).await["generation"], 3);
    let stream = bed.connect(&proxy, NAME, &[]).await.unwrap();
    assert_eq!(status_of(stream, NAME).await, 200);
    validation.release();
    bed.wait_until_served(&proxy, 2).await;
}
