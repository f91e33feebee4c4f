//! Answers to the challenges by which a certificate authority checks who controls a name, in TLS (RFC 8737) and
//! over HTTP (RFC 8555 8.3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certs::CertTable;

/// The answers to the challenges that are being validated, at most a few.
#[derive(Debug, Default)]
pub struct ChallengeAnswers {
    /// By the name that is validated.
    tls: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    /// By token.
    http: Mutex<HashMap<String, String>>,
}

impl ChallengeAnswers {
    /// Shows this certificate to clients that validate `name`.
    pub fn insert_tls(&self, name: &str, key: CertifiedKey) {
        let mut answers = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(name.to_ascii_lowercase(), Arc::new(key));
    }

    /// Answers requests for this token.
    pub fn insert_http(&self, token: &str, answer: String) {
        let mut answers = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(token.to_owned(), answer);
    }

    /// Removes the answer for this name or token.
    pub fn remove(&self, name_or_token: &str) {
        let name = name_or_token.to_ascii_lowercase();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        self.http.lock().unwrap_or_else(PoisonError::into_inner).remove(name_or_token);
    }

    /// The answer to a request with this path; `None` if it asks for no token that is being validated.
    pub fn http(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_PATH)?;
        self.http.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    fn tls(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }
}

/// Selects the answer for clients that validate a name, and a certificate for all others.
#[derive(Debug)]
pub(super) struct ChallengeResolver {
    pub(super) certs: Arc<CertTable>,
    pub(super) answers: Arc<ChallengeAnswers>,
}

impl ResolvesServerCert for ChallengeResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_validation(&hello) {
            return self.answers.tls(hello.server_name()?);
        }
        self.certs.resolve(hello)
    }
}

/// Whether the client offers nothing but the protocol of a validation (RFC 8737 3).
fn is_validation(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(ACME_TLS) && protocols.next().is_none()
}

/// The identifier of ALPN for validations (RFC 8737 6.2).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";
/// The path of an answer, without the token (RFC 8555 8.3).
const HTTP_PATH: &str = "/.well-known/acme-challenge/";
