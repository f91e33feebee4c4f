//! The CA of these tests, with lego as its client: shows that the CA is one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::ca::{Ca, Fault, Problem, Step};
use crate::support::TempDir;

/// Runs lego with this CA; `None` if it is not installed.
#[expect(clippy::print_stdout, reason = "reports the skipped test")]
async fn lego(ca: &Ca, folder: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.args(["60", "lego", "--accept-tos", "--email", "a@example.com"]);
    command.args(["--server", &ca.directory(), "--path", folder.to_str().unwrap()]);
    command.args(arguments).env("LEGO_CA_CERTIFICATES", ca.root_file());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    if output.status.code() == Some(127) {
        println!("skipped: lego is not installed");
        return None;
    }
    Some(output)
}

/// An address of this machine where nothing listens.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn assert_valid_for(chain: &str, name: &str, ca: &Ca) {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let mut roots = RootCertStore::empty();
    roots.add(ca.root()).unwrap();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
        roots.into(),
        rustls::crypto::aws_lc_rs::default_provider().into(),
    );
    let name = ServerName::try_from(name.to_owned()).unwrap();
    rustls::client::danger::ServerCertVerifier::verify_server_cert(
        &*verifier.build().unwrap(),
        &chain[0],
        &chain[1..],
        &name,
        &[],
        UnixTime::now(),
    )
    .unwrap();
}

#[tokio::test]
async fn lego_gets_certificates_from_the_test_ca() {
    for kind in ["tls", "http"] {
        let (ca, folder, address) = (Ca::start().await, TempDir::new(), free_address());
        let challenge = [&format!("--{kind}"), &format!("--{kind}.port")];
        ca.validate_tls_at(address);
        ca.validate_http_at(address);
        let bad_nonce = Problem::new(400, "badNonce", "made up");
        ca.fail_next(Step::NewOrder, Fault::Problem(bad_nonce));
        let address = address.to_string();
        let domains =
            ["-d", "a.example", "-d", "b.example", challenge[0], challenge[1], &address, "run"];
        let Some(output) = lego(&ca, folder.path(), &domains).await else { return };
        assert!(output.status.success(), "{output:?}");
        let issued = ca.issued().pop().unwrap();
        assert_eq!(issued.names, BTreeSet::from(["a.example", "b.example"].map(str::to_owned)));
        let file = folder.path().join("certificates/a.example.crt");
        let chain = std::fs::read_to_string(file).unwrap();
        assert_valid_for(&chain, "b.example", &ca);
        assert_eq!((ca.count(Step::NewOrder), ca.count(Step::Validation)), (2, 2));
    }
}

#[tokio::test]
async fn test_ca_rejects_lego_where_it_must() {
    let (ca, folder, address) = (Ca::start().await, TempDir::new(), free_address());
    let run = async |name: &str, more: &[&str]| {
        let domains = ["-d", name, "--tls", "--tls.port", &address.to_string()];
        lego(&ca, folder.path(), &[&domains, more].concat()).await
    };
    // Nothing listens where the CA connects.
    ca.validate_tls_at(free_address());
    let Some(output) = run("a.example", &["run"]).await else { return };
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("urn:ietf:params:acme:error:connection"), "{text}");
    ca.validate_tls_at(address);
    ca.set(|settings| drop(settings.external_accounts.insert("k1".to_owned(), vec![7; 32])));
    let other = TempDir::new();
    let bound = async |hmac: &str| {
        let binding = ["--eab", "--kid", "k1", "--hmac", hmac];
        let domains = ["-d", "b.example", "--tls", "--tls.port", &address.to_string(), "run"];
        lego(&ca, other.path(), &[&binding[..], &domains].concat()).await.unwrap()
    };
    let rejected = bound("AAAA").await;
    let text = String::from_utf8(rejected.stderr).unwrap();
    assert!(text.contains("wrong MAC"), "{text}");
    let secret = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]);
    assert!(bound(&secret).await.status.success());
    let external = ca.with_data(|data| data.accounts.last().unwrap().external.clone());
    assert_eq!(external.as_deref(), Some("k1"));
    ca.set(|settings| settings.external_accounts.clear());
    ca.deactivate_accounts();
    let rejected = run("c.example", &["run"]).await.unwrap();
    let text = String::from_utf8(rejected.stderr).unwrap();
    assert!(text.contains("deactivated"), "{text}");
    assert_eq!(ca.issued().len(), 1);
}
