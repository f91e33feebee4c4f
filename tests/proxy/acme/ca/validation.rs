//! Validates that the client controls a name, by connecting to it: tls-alpn-01 (RFC 8737), http-01 (RFC
//! 8555 8.3), and dns-01 from files.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;

use super::problem::Problem;
use super::script::{Fault, Step};
use super::state::{CaState, Targets};
use crate::support::{read_body, read_response, trust_any_certificate_with, within_timeout};

/// The protocol of tls-alpn-01.
pub const ACME_TLS: &[u8] = b"acme-tls/1";
/// id-pe-acmeIdentifier (RFC 8737 3).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// A validation that the client has asked for.
pub struct Validation {
    pub authorization: usize,
    pub kind: &'static str,
    pub name: String,
    pub token: String,
    pub key_authorization: String,
}

impl Validation {
    /// Validates, and stores the result.
    pub async fn run(self, state: Arc<CaState>) {
        let fault = state.reach(Step::Validation);
        if let Some(Fault::Hold(gatekeeper)) = &fault {
            gatekeeper.pass().await;
        }
        let result = match fault {
            Some(Fault::Problem(problem)) => Err(problem),
            _ => self.validate(&state).await,
        };
        state.data().authorizations[self.authorization].result = Some(result);
        state.changed.notify_waiters();
    }

    async fn validate(&self, state: &CaState) -> Result<(), Problem> {
        let mut targets = state.targets.subscribe();
        // The process under test may still be about to say where it listens.
        let is_known = |targets: &Targets| match self.kind {
            "tls-alpn-01" => targets.tls.is_some(),
            "http-01" => targets.http.is_some(),
            _ => targets.dns.is_some(),
        };
        let targets = within_timeout("the address to validate", targets.wait_for(is_known)).await;
        let targets = targets.unwrap().clone();
        match self.kind {
            "tls-alpn-01" => self.tls_alpn(targets.tls.unwrap()).await,
            "http-01" => self.http(targets.http.unwrap()).await,
            _ => self.dns(&targets),
        }
    }

    async fn tls_alpn(&self, target: SocketAddr) -> Result<(), Problem> {
        let failed = |detail: String| Problem::new(400, "tls", format!("{}: {detail}", self.name));
        let wrong = |detail: &str| {
            let detail =
                format!("Incorrect validation certificate for tls-alpn-01 challenge. {detail}");
            Problem::new(403, "unauthorized", detail)
        };
        let stream = TcpStream::connect(target).await.map_err(|error| self.unreachable(&error))?;
        let connector = trust_any_certificate_with(&[ACME_TLS]);
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let stream = within_timeout("TLS", connector.connect(name, stream)).await;
        let mut stream = stream.map_err(|error| failed(error.to_string()))?;
        let session = stream.get_ref().1;
        if session.alpn_protocol() != Some(ACME_TLS) {
            return Err(wrong("The server did not select acme-tls/1"));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first()).cloned();
        let leaf = leaf.ok_or_else(|| wrong("No certificate was sent"))?;
        let (_, leaf) = parse_x509_certificate(&leaf).map_err(|_| wrong("It cannot be parsed"))?;
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names.map(|found| found.value.general_names.clone()).unwrap_or_default();
        let is_name =
            |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(n) if *n == self.name);
        if names.len() != 1 || !is_name(&names[0]) {
            return Err(wrong(&format!("It is for {names:?}")));
        }
        let identifier = leaf.extensions().iter().find(|e| e.oid.to_id_string() == ACME_IDENTIFIER);
        let identifier = identifier.ok_or_else(|| wrong("It has no acmeIdentifier"))?;
        let expected =
            [&[4, 32], digest(&SHA256, self.key_authorization.as_bytes()).as_ref()].concat();
        let is_unparsed =
            matches!(identifier.parsed_extension(), ParsedExtension::UnsupportedExtension { .. });
        if !identifier.critical || identifier.value != expected || !is_unparsed {
            return Err(wrong("Its acmeIdentifier is not that of the key authorization"));
        }
        // The server must end the connection without serving anything (RFC 8737 3).
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut byte = [0];
        let after = within_timeout("the end of acme-tls/1", stream.read(&mut byte)).await;
        if matches!(after, Ok(1)) {
            return Err(wrong("The server sent data over acme-tls/1"));
        }
        Ok(())
    }

    async fn http(&self, target: SocketAddr) -> Result<(), Problem> {
        let stream = TcpStream::connect(target).await.map_err(|error| self.unreachable(&error))?;
        let mut stream = BufReader::new(stream);
        let request = format!(
            "GET /.well-known/acme-challenge/{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tests\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n",
            self.token, self.name
        );
        let _ = stream.write_all(request.as_bytes()).await;
        let response = read_response(&mut stream).await;
        let body = String::from_utf8_lossy(&read_body(&mut stream, &response).await).into_owned();
        if response.status == 200 && body.trim_end() == self.key_authorization {
            return Ok(());
        }
        let detail = format!(
            "127.0.0.1: Invalid response from http://{}/.well-known/acme-challenge/{}: {}",
            self.name, self.token, response.status
        );
        Err(Problem::new(403, "unauthorized", detail))
    }

    fn dns(&self, targets: &Targets) -> Result<(), Problem> {
        let file = targets.dns.as_ref().unwrap().join(format!("_acme-challenge.{}", self.name));
        let records = std::fs::read_to_string(&file).unwrap_or_default();
        let hash = digest(&SHA256, self.key_authorization.as_bytes());
        let expected = BASE64URL_NOPAD.encode(hash.as_ref());
        if records.lines().any(|record| record == expected) {
            return Ok(());
        }
        let detail = format!("No TXT record found at _acme-challenge.{}", self.name);
        Err(Problem::new(403, "unauthorized", detail))
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        Problem::new(400, "connection", format!("127.0.0.1: Fetching {}: {error}", self.name))
    }
}
