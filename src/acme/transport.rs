//! HTTP requests to a certificate authority: one connection each, within a deadline, with a bounded response.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::select;
use tokio::time::timeout;

use super::failure::AcmeFailure;
use crate::net::network::{Net, TargetAddr};
use crate::net::socket::Socket;
use crate::net::tls_client::OutboundTls;
use crate::tls::pool::client_config;

/// Sends requests to a certificate authority.
#[derive(Clone, Debug)]
pub struct AcmeTransport {
    net: Arc<dyn Net>,
    tls: Arc<ClientConfig>,
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct AcmeResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl AcmeTransport {
    /// Reads the issuers that the authority's own certificate must be signed by; those of the system without `ca`.
    /// May block.
    ///
    /// # Errors
    /// The issuers cannot be used.
    pub fn new(net: Arc<dyn Net>, ca: Option<&Path>) -> Result<Self, AcmeFailure> {
        let tls = client_config(ca).map_err(AcmeFailure::directory)?;
        Ok(Self { net, tls })
    }

    /// Sends a request. The response may have any status.
    ///
    /// # Errors
    /// No complete response came in time.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<AcmeResponse, AcmeFailure> {
        let sending = timeout(REQUEST_TIMEOUT, self.exchange(method, url, body));
        let within = sending.await.unwrap_or_else(|_| {
            Err(format!("no complete response within {} s", REQUEST_TIMEOUT.as_secs()))
        });
        within.map_err(|problem| AcmeFailure::directory(problem).while_doing(url))
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<Vec<u8>>,
    ) -> Result<AcmeResponse, String> {
        let uri: Uri = url.parse().map_err(|_| "not a URL".to_owned())?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("not an https URL".to_owned());
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let socket = self.connect(host, authority.port_u16().unwrap_or(HTTPS_PORT)).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, AGENT)
            .header(CONNECTION, "close");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/jose+json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request = request.map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| error.to_string())?;
        let response = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
            Ok(AcmeResponse { status: head.status, headers: head.headers, body })
        };
        let mut response = std::pin::pin!(response);
        let received: Result<_, Box<dyn std::error::Error + Send + Sync>> = select! {
            received = &mut response => received,
            // What has arrived before the end is still read.
            _ = connection => response.await,
        };
        received.map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    }

    /// Connects to the first address that accepts.
    async fn connect(&self, host: &str, port: u16) -> Result<Socket, String> {
        let resolved = self.net.resolve(host, port).await;
        let addresses = resolved.map_err(|error| format!("cannot resolve {host}: {error}"))?;
        let mut failure = format!("{host} has no address");
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            let target = TargetAddr::Tcp(address);
            match timeout(CONNECT_TIMEOUT, self.net.connect(&target)).await {
                Ok(Ok(socket)) => return self.secure(socket, host).await,
                Ok(Err(error)) => failure = format!("cannot connect to {address}: {error}"),
                Err(_) => {
                    let seconds = CONNECT_TIMEOUT.as_secs();
                    failure = format!("cannot connect to {address} within {seconds} s");
                }
            }
        }
        Err(failure)
    }

    async fn secure(&self, socket: Socket, host: &str) -> Result<Socket, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} cannot be the name in a certificate"))?;
        let tls = OutboundTls::new(self.tls.clone(), name);
        tls.connect(socket)
            .await
            .map_err(|error| format!("TLS with {host} failed: {error}{}", issuer_hint(&error)))
    }
}

/// What to do about a certificate of the authority whose issuer is not trusted; nothing about other errors.
fn issuer_hint(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; acme.ca names the issuers that are trusted"
        }
        Some(_) | None => "",
    }
}

impl AcmeResponse {
    /// A field of the head.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long the authority asks to wait (RFC 9110 10.2.3); a date counts from the one of the response, so that
    /// the clock of this machine does not matter.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = httpdate::parse_http_date(text).ok()?;
        let now = httpdate::parse_http_date(self.header("date")?).ok()?;
        until.duration_since(now).ok()
    }
}

/// From the name to the last byte of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of the authority that are tried.
const ADDRESSES_MAX: usize = 4;
const HTTPS_PORT: u16 = 443;
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Chains are the largest documents; those in use have less than 10 KiB.
const BODY_BYTES_MAX: usize = 256 << 10;
const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unknown_issuer_asks_for_another_ca() {
        let hint = |error: rustls::Error| issuer_hint(&io::Error::other(error));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(hint(unknown).contains("acme.ca"));
        for other in [
            rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied),
            rustls::Error::InvalidCertificate(CertificateError::Expired),
        ] {
            assert_eq!(hint(other), "");
        }
        assert_eq!(issuer_hint(&io::ErrorKind::ConnectionReset.into()), "");
    }

    #[test]
    fn retry_after_is_a_time_or_a_date() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, hyper::header::HeaderValue::from_static(value));
            }
            AcmeResponse { status: StatusCode::OK, headers, body: Bytes::new() }.retry_after()
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(of(&[("retry-after", "120")]), Some(Duration::from_secs(120)));
        let until = ("retry-after", "Sun, 06 Nov 1994 09:49:37 GMT");
        assert_eq!(of(&[date, until]), Some(Duration::from_secs(3600)));
        // Without a date to compare with, or with nonsense, the usual delay applies.
        assert_eq!(of(&[until]), None);
        assert_eq!(of(&[date, ("retry-after", "Sun, 06 Nov 1994 07:49:37 GMT")]), None);
        assert_eq!(of(&[("retry-after", "soon")]), None);
        assert_eq!(of(&[]), None);
    }
}
