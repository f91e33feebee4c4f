//! A start without any certificate.

use super::ca::{Fault, Problem, Step};
use super::{AcmeBed, NAME, readiness};
use crate::support::{Proxy, get};

/// The certificate that is served, trusted or not; `None` if the handshake fails.
async fn is_answered(proxy: &Proxy) -> bool {
    let stream = tokio::net::TcpStream::connect(proxy.address("tls").await).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let connector = crate::support::trust_any_certificate();
    crate::support::within_timeout("TLS", connector.connect(name, stream)).await.is_ok()
}

// Requirements: CK19.
#[tokio::test]
async fn start_without_a_certificate_waits_with_a_reason() {
    let bed = AcmeBed::new().await;
    let order = bed.ca.hold_next(Step::NewOrder);
    let proxy = bed.start("").await;
    order.reached().await;
    assert_eq!(readiness(&proxy).await, 503);
    let (health, body) = get(proxy.admin().await, "/healthz").await;
    assert_eq!(health.status, 200, "{}", String::from_utf8_lossy(&body));
    assert!(!is_answered(&proxy).await);
    let record = proxy.record("the reason", |record| record["end"] == "tls_failed").await;
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("not been issued"), "{record}");
    order.release();
    bed.wait_until_served(&proxy, 1).await;
    assert_eq!(readiness(&proxy).await, 200);
}

// Requirements: CK19.
#[tokio::test]
async fn self_signed_certificate_is_served_on_request() {
    let bed = AcmeBed::new().await;
    let order = bed.ca.hold_next(Step::NewOrder);
    let proxy = bed.start("until_issued = \"self-signed\"\n").await;
    order.reached().await;
    assert!(is_answered(&proxy).await);
    assert_eq!(bed.served(&proxy).await, None);
    // The operator wants connections although no client trusts it.
    assert_eq!(readiness(&proxy).await, 200);
    order.release();
    bed.wait_until_served(&proxy, 1).await;
}

// Requirements: CK19.
#[tokio::test]
async fn readiness_names_the_missing_certificate() {
    let bed = AcmeBed::new().await;
    let problem = Problem::new(429, "rateLimited", "too many failed authorizations recently");
    bed.ca.fail_always(Step::NewOrder, Some(Fault::Problem(problem)));
    let proxy = bed.start("").await;
    super::logged(&proxy, "too many failed authorizations recently").await;
    let (response, body) = get(proxy.admin().await, "/readyz").await;
    let body = String::from_utf8(body).unwrap();
    assert_eq!(response.status, 503, "{body}");
    assert!(body.contains("certificate"), "{body}");
}

#[tokio::test]
async fn certificate_in_files_serves_other_names_meanwhile() {
    let bed = AcmeBed::new().await;
    let order = bed.ca.hold_next(Step::NewOrder);
    let files = "[[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
                 [[route]]\nhost = \"localhost\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:1\"]\n";
    let proxy = bed.start(files).await;
    order.reached().await;
    let stream = tokio::net::TcpStream::connect(proxy.address("tls").await).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    crate::support::trust_any_certificate().connect(name, stream).await.unwrap();
    assert!(!is_answered(&proxy).await);
    assert_eq!(readiness(&proxy).await, 200);
    order.release();
    bed.wait_until_served(&proxy, 1).await;
}
