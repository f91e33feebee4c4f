//! The TLS handshake, under a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::{
    AlertDescription, CipherSuite, CommonState, Error as TlsError, InvalidMessage, ProtocolVersion,
};
use tokio::time::timeout;

use super::certs::CertTable;
use crate::client::{TlsInfo, TlsVersion};
use crate::net::engine::{EngineConfig, ServerEngine};
use crate::net::socket::Socket;
use crate::net::unbuffered_tls::UnbufferedTls;
use crate::reject::{ConnectionStage, DropReason};

/// Everything a TLS listener needs, built once a generation.
#[derive(Clone)]
pub struct TlsTerminator {
    config: EngineConfig,
    certs: Arc<CertTable>,
}

/// Stateless tickets, their keys rotating by themselves. Made once a process: a new one at a
/// reload would end every client's resumption.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    aws_lc_rs::Ticketer::new()
}

impl TlsTerminator {
    /// TLS 1.2 and 1.3, HTTP/1.1 only, no early data.
    pub fn new(certs: CertTable, ticketer: Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let certs = Arc::new(certs);
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(certs.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ticketer;
        config.send_tls13_tickets = 1;
        Ok(Self { config: EngineConfig::new(config), certs })
    }

    /// Shakes hands within `limit`.
    pub async fn terminate(
        &self,
        io: Socket,
        limit: Duration,
    ) -> Result<(UnbufferedTls<ServerEngine, Socket>, TlsInfo), DropReason> {
        let engine =
            ServerEngine::new(&self.config).map_err(|flaw| cause(io::Error::other(flaw)))?;
        let mut stream = timeout(limit, UnbufferedTls::accept(io, engine))
            .await
            .map_err(|_| DropReason::TlsTimeout)?
            .map_err(cause)?;
        let engine = stream.engine_mut();
        let name = engine.take_name();
        let facts = facts(name.as_deref(), engine.agreed());
        Ok((stream, facts))
    }

    /// The certificates behind this terminator.
    pub fn certs(&self) -> &CertTable {
        &self.certs
    }
}

/// What a handshake told us.
fn facts(name: Option<&str>, connection: &CommonState) -> TlsInfo {
    TlsInfo {
        sni: name.map(|name| name.to_ascii_lowercase().into()),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
            _ => TlsVersion::V13,
        },
        cipher: match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
            // rustls puts the version into the names of these.
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
            Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
            suite => suite.and_then(|suite| suite.as_str()).unwrap_or("unknown"),
        },
    }
}

/// A peer that went away is not a fault of its TLS.
fn cause(error: io::Error) -> DropReason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        // rustls has no error of its own for this, only these words.
        Some(TlsError::General(words)) if words.contains("no server certificate chain") => {
            DropReason::TlsFailed(
                "the client named no server, or one that no certificate covers, and none is \
                 marked `default = true`"
                    .into(),
            )
        }
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            DropReason::TlsFailed("this is not TLS (plain HTTP on the TLS port?)".into())
        }
        Some(TlsError::AlertReceived(alert)) => {
            let distrust = matches!(
                alert,
                AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
            );
            let why = if distrust { "it does not trust our certificate" } else { "it broke off" };
            DropReason::TlsFailed(format!("the client sent alert {alert:?}: {why}"))
        }
        Some(tls) => DropReason::TlsFailed(tls.to_string()),
        None => DropReason::Gone(ConnectionStage::Tls),
    }
}
