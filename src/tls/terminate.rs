//! The TLS handshake with a client, within a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ResolvesServerCert, ServerConfig};
use rustls::{
    AlertDescription, CipherSuite, CommonState, Error as TlsError, InvalidMessage, ProtocolVersion,
};
use tokio::time::timeout;

use super::certs::CertTable;
use super::challenges::{ACME_TLS, ChallengeAnswers, ChallengeResolver};
use crate::client::{HttpProtocol, TlsInfo, TlsVersion};
use crate::net::socket::Socket;
use crate::net::tls_engine::server_name::NO_CERTIFICATE_CHAIN;
use crate::net::tls_engine::{EngineConfig, ServerEngine};
use crate::net::unbuffered_tls::UnbufferedTls;
use crate::reject::drop_reason::DropReason;
use crate::reject::stage::ConnectionStage;

/// Everything a TLS listener needs; built once per snapshot.
#[derive(Clone)]
pub struct TlsTerminator {
    config: EngineConfig,
    /// As `config`, for listeners that offer HTTP/2 as well.
    http2_config: EngineConfig,
    certs: Arc<CertTable>,
}

/// A connection after its handshake.
pub struct TlsConnection {
    /// The stream.
    pub stream: Box<UnbufferedTls<ServerEngine, Socket>>,
    /// The negotiated parameters.
    pub info: TlsInfo,
    /// The protocol that ALPN selected (RFC 7301).
    pub protocol: HttpProtocol,
}

/// Creates the issuer of stateless session tickets, which rotates its keys itself. Create it once per
/// process: with a new one, no client could resume its session (RFC 8446 2.2).
///
/// # Errors
/// The cryptographic provider has no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    aws_lc_rs::Ticketer::new()
}

impl TlsTerminator {
    /// Accepts TLS 1.2 and 1.3 with ALPN `http/1.1`, and `h2` where it is offered, without early data. With
    /// `answers`, clients that validate a name as well.
    ///
    /// # Errors
    /// The cryptographic provider does not support these versions.
    pub fn new(
        certs: CertTable,
        ticketer: Arc<dyn ProducesTickets>,
        answers: Option<Arc<ChallengeAnswers>>,
    ) -> Result<Self, TlsError> {
        let certs = Arc::new(certs);
        let mut protocols = vec![HTTP1.to_vec()];
        let mut resolver: Arc<dyn ResolvesServerCert> = certs.clone();
        if let Some(answers) = answers {
            // Last, so that it is selected only if the client offers nothing else.
            protocols.push(ACME_TLS.to_vec());
            resolver = Arc::new(ChallengeResolver { certs: certs.clone(), answers });
        }
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(resolver);
        config.alpn_protocols = protocols;
        config.ticketer = ticketer;
        config.send_tls13_tickets = 1;
        let mut http2_config = config.clone();
        http2_config.alpn_protocols.insert(0, HTTP2.to_vec());
        let [config, http2_config] = [config, http2_config].map(EngineConfig::new);
        Ok(Self { config, http2_config, certs })
    }

    /// Performs the TLS handshake within `limit`. `offers_http2`: the client may select it.
    ///
    /// # Errors
    /// The handshake failed, did not finish in time, or the client disconnected.
    pub async fn terminate(
        &self,
        io: Socket,
        limit: Duration,
        offers_http2: bool,
    ) -> Result<TlsConnection, DropReason> {
        let config = if offers_http2 { &self.http2_config } else { &self.config };
        let engine =
            ServerEngine::new(config).map_err(|error| self.drop_reason(io::Error::other(error)))?;
        let mut stream = timeout(limit, UnbufferedTls::accept(io, engine))
            .await
            .map_err(|_| DropReason::TlsTimeout)?
            .map_err(|error| self.drop_reason(error))?;
        let engine = stream.engine_mut();
        let name = engine.take_server_name();
        let state = engine.common_state();
        let protocol = match state.alpn_protocol() {
            Some(HTTP2) => HttpProtocol::Http2,
            // RFC 8737 3: the client has what it wants, and nothing follows.
            Some(ACME_TLS) => return Err(DropReason::ClientDisconnected(ConnectionStage::Tls)),
            Some(_) | None => HttpProtocol::Http1,
        };
        let info = tls_info(name.as_deref(), state);
        Ok(TlsConnection { stream, info, protocol })
    }

    fn drop_reason(&self, error: io::Error) -> DropReason {
        let Some(TlsError::General(text)) = tls_error(&error) else { return drop_reason(&error) };
        let Some(name) = text.strip_prefix(NO_CERTIFICATE_CHAIN) else {
            return drop_reason(&error);
        };
        let mut detail = match name.strip_prefix(" for ") {
            Some(name) => format!("no certificate covers the requested server name {name}"),
            None => "no certificate matches: the client requested no server name".to_owned(),
        };
        detail.push_str(", and none is marked `default = true`");
        if self.certs.ordered().iter().any(|of| of.issued.is_none()) {
            detail.push_str("; some have not been issued yet (see `tidegate ctl certs`)");
        }
        DropReason::TlsFailed(detail)
    }

    /// The certificates that clients are shown.
    pub fn certs(&self) -> &CertTable {
        &self.certs
    }
}

/// The negotiated parameters of a TLS connection.
fn tls_info(name: Option<&str>, connection: &CommonState) -> TlsInfo {
    TlsInfo {
        sni: name.map(|name| name.to_ascii_lowercase().into()),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
            _ => TlsVersion::V13,
        },
        cipher: match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
            // rustls prefixes these names with the version; the IANA names have no prefix.
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
            Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
            suite => suite.and_then(|suite| suite.as_str()).unwrap_or("unknown"),
        },
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>())
}

/// Why a handshake failed. Without a TLS error the client has disconnected.
fn drop_reason(error: &io::Error) -> DropReason {
    match tls_error(error) {
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            DropReason::TlsFailed(
                "not a TLS record; the client may speak plain HTTP to the TLS port".into(),
            )
        }
        Some(TlsError::AlertReceived(alert)) => {
            let distrust = matches!(
                alert,
                AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
            );
            let why = if distrust {
                "it does not trust the certificate"
            } else {
                "it aborted the handshake"
            };
            DropReason::TlsFailed(format!("the client sent TLS alert {alert:?}: {why}"))
        }
        Some(tls) => DropReason::TlsFailed(tls.to_string()),
        None => DropReason::ClientDisconnected(ConnectionStage::Tls),
    }
}

/// Identifiers of ALPN (RFC 7301 6, RFC 9113 3.2).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";
