//! The requests of RFC 8555, signed by an account.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::{AcmeFailure, FailureScope};
use super::jws::{AccountKey, Signer};
use super::protocol::{AcmeProblem, Directory, one_line};
use super::transport::{AcmeResponse, AcmeTransport};

/// A client of one directory, for the requests of one account.
pub struct AcmeClient {
    transport: AcmeTransport,
    /// The directory.
    pub directory: Directory,
    key: AccountKey,
    /// The URL of the account; `None` until it is known.
    account: Option<String>,
    /// A nonce that was not used yet.
    nonce: Option<String>,
}

/// A document, and what its head says.
pub struct AcmeDocument<T> {
    pub document: T,
    /// Where the created resource is.
    pub location: Option<String>,
    pub retry_after: Option<Duration>,
}

impl AcmeClient {
    /// Reads the directory.
    ///
    /// # Errors
    /// It cannot be reached, or is none.
    pub async fn connect(
        transport: AcmeTransport,
        url: &str,
        key: AccountKey,
        account: Option<String>,
    ) -> Result<Self, AcmeFailure> {
        let response = transport.send(Method::GET, url, None).await?;
        let received = check(response).map_err(|failure| failure.while_doing(url))?;
        let directory = parse(&received.body).map_err(|failure| failure.while_doing(url))?;
        Ok(Self { transport, directory, key, account, nonce: None })
    }

    /// The key of the account.
    pub fn key(&self) -> &AccountKey {
        &self.key
    }

    /// Replaces the account.
    pub fn set_account(&mut self, key: AccountKey, account: Option<String>) {
        (self.key, self.account) = (key, account);
    }

    /// Sends the payload, or reads the resource (RFC 8555 6.3). Requests are signed by the account once it is known.
    ///
    /// # Errors
    /// There was no valid response, or the authority reports a problem.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<AcmeDocument<T>, AcmeFailure> {
        let response = self.post_raw(url, payload).await?;
        let location = response.header("location").map(str::to_owned);
        let retry_after = response.retry_after();
        let document = parse(&response.body).map_err(|failure| failure.while_doing(url))?;
        Ok(AcmeDocument { document, location, retry_after })
    }

    /// Reads a resource that is not JSON.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn read_text(&mut self, url: &str) -> Result<String, AcmeFailure> {
        let response = self.post_raw(url, None).await?;
        String::from_utf8(response.body.into())
            .map_err(|_| AcmeFailure::directory(format!("{url}: the response is not text")))
    }

    async fn post_raw(
        &mut self,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<AcmeResponse, AcmeFailure> {
        let mut attempts = 0;
        loop {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let signer = self.account.as_deref().map_or(Signer::PublicKey, Signer::Account);
            let body = self.key.sign(signer, url, &nonce, payload);
            let body = body.map_err(AcmeFailure::certificate)?;
            let response = self.transport.send(Method::POST, url, Some(body)).await?;
            self.nonce = response.header(NONCE).map(str::to_owned);
            attempts += 1;
            match check(response) {
                // RFC 8555 6.5: signed again with the nonce of this response.
                Err(failure) if failure.kind == "badNonce" && attempts < NONCES_MAX => {}
                checked => return checked.map_err(|failure| failure.while_doing(url)),
            }
        }
    }

    async fn new_nonce(&self) -> Result<String, AcmeFailure> {
        let url = &self.directory.new_nonce;
        let response = self.transport.send(Method::HEAD, url, None).await?;
        let response = check(response).map_err(|failure| failure.while_doing(url))?;
        let nonce = response.header(NONCE).map(str::to_owned);
        nonce.ok_or_else(|| AcmeFailure::directory(format!("{url}: the response has no nonce")))
    }
}

/// Reads a document that needs no account.
///
/// # Errors
/// There was no valid response, or the authority reports a problem.
pub async fn get<T: DeserializeOwned>(
    transport: &AcmeTransport,
    url: &str,
) -> Result<AcmeDocument<T>, AcmeFailure> {
    let response = transport.send(Method::GET, url, None).await?;
    let response = check(response).map_err(|failure| failure.while_doing(url))?;
    let retry_after = response.retry_after();
    let document = parse(&response.body).map_err(|failure| failure.while_doing(url))?;
    Ok(AcmeDocument { document, location: None, retry_after })
}

/// The response, unless it reports a problem.
fn check(response: AcmeResponse) -> Result<AcmeResponse, AcmeFailure> {
    let status = response.status;
    if status.is_success() {
        return Ok(response);
    }
    let problem: AcmeProblem = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = match problem.kind.is_empty() {
        true => format!("the authority answers with the status {status}"),
        false => format!("the authority says: {}", problem.text()),
    };
    let is_overloaded = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let is_directory = is_overloaded || problem.kind.is_empty();
    Err(AcmeFailure {
        text,
        kind: problem.kind().to_owned(),
        scope: if is_directory { FailureScope::Directory } else { FailureScope::Certificate },
        retry_after: response.retry_after(),
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AcmeFailure> {
    serde_json::from_slice(body).map_err(|error| {
        let text = one_line(&error.to_string());
        AcmeFailure::directory(format!("the response is not what RFC 8555 requires: {text}"))
    })
}

const NONCE: &str = "replay-nonce";
/// How often a request is signed; the deadline of the order limits it as well.
const NONCES_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;

    use super::*;

    fn response(status: u16, body: &'static str) -> AcmeResponse {
        let status = StatusCode::from_u16(status).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", hyper::header::HeaderValue::from_static("60"));
        AcmeResponse { status, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn failures_say_what_they_mean_for_other_orders() {
        let failure = |status, body| check(response(status, body)).err().unwrap();
        let rejected =
            r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "no"}"#;
        let limited = r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many"}"#;
        let found = failure(403, rejected);
        assert_eq!((found.scope, &*found.kind), (FailureScope::Certificate, "rejectedIdentifier"));
        assert_eq!(found.text, "the authority says: no (rejectedIdentifier)");
        let found = failure(429, limited);
        assert_eq!(found.scope, FailureScope::Directory);
        assert_eq!(found.retry_after, Some(Duration::from_secs(60)));
        // What a proxy in front of the authority may send.
        for status in [302, 400, 500, 503] {
            assert_eq!(failure(status, "<html>").scope, FailureScope::Directory, "{status}");
        }
    }
}
