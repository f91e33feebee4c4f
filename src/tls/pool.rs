//! What TLS to the backends of the pools needs: trusted issuers, client certificates, and how certificates are
//! verified.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{Error as TlsError, RootCertStore};

use self::verifier::{BackendVerifier, Trust};
use super::certs::pair;
use crate::config::settings::CertificateSource;
use crate::config::settings::pool::{ClientCertificate, PoolSettings, PoolTlsSettings};
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::values::backend_address::BackendAddress;
use crate::net::tls_client::OutboundTls;

/// The files of all pools with TLS, read once for a snapshot.
#[derive(Debug, Default)]
pub struct PoolTlsClients {
    pools: HashMap<Arc<PoolTlsSettings>, PoolTlsFiles>,
    warnings: Vec<LateDiagnostic>,
}

/// The files of one pool.
#[derive(Debug)]
struct PoolTlsFiles {
    /// `None` if any certificate is accepted.
    issuers: Option<Issuers>,
    certificate: Option<Arc<SingleCertAndKey>>,
    provider: Arc<CryptoProvider>,
}

/// Who may sign the certificates of backends.
#[derive(Clone, Debug)]
struct Issuers {
    verifier: Arc<WebPkiServerVerifier>,
    /// The certificates of a `ca` file.
    listed: Arc<[CertificateDer<'static>]>,
}

impl PoolTlsClients {
    /// Reads the files of these pools and adds all problems to `errors`.
    pub fn load(pools: &[Arc<PoolSettings>], errors: &mut Vec<LateDiagnostic>) -> Self {
        let mut loaded = Self::default();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut system = None;
        for (index, pool) in pools.iter().enumerate() {
            let Some(tls) = &pool.tls else { continue };
            let problem = |key: &str, problem: String| LateDiagnostic {
                key: format!("pool[{index}].tls.{key}"),
                problem,
            };
            let issuers = match (tls.insecure_skip_verify, &tls.ca) {
                (true, _) => Ok(None),
                (false, Some(ca)) => Issuers::read(ca, &provider).map(Some),
                (false, None) => {
                    let found = system.get_or_insert_with(|| Issuers::of_system(&provider));
                    found.clone().map(Some)
                }
            };
            let issuers = issuers.map_err(|text| errors.push(problem("ca", text))).ok();
            let mut warn = |text| loaded.warnings.push(problem("key", text));
            let certificate = match tls.certificate.as_ref().map(|files| read(files, &mut warn)) {
                None => Some(None),
                Some(Ok(certificate)) => Some(Some(certificate)),
                Some(Err(problems)) => {
                    errors.extend(problems.into_iter().map(|(key, text)| problem(key, text)));
                    None
                }
            };
            if let (Some(issuers), Some(certificate)) = (issuers, certificate) {
                let files = PoolTlsFiles { issuers, certificate, provider: provider.clone() };
                loaded.pools.insert(tls.clone(), files);
            }
        }
        loaded
    }

    /// Files that can be used, but should not be left as they are.
    pub fn warnings(&self) -> &[LateDiagnostic] {
        &self.warnings
    }

    /// TLS to a backend at this address, with sessions of its own. `None` if the files of its pool could not be
    /// used.
    pub fn client(
        &self,
        settings: &PoolTlsSettings,
        address: &BackendAddress,
    ) -> Option<OutboundTls> {
        let files = self.pools.get(settings)?;
        let host = match address {
            // A final dot belongs to the lookup alone (RFC 6066 3).
            BackendAddress::Tcp { host, .. } => Some(host.trim_end_matches('.')),
            BackendAddress::Unix(_) => None,
        };
        let own_name = |name: &str| ServerName::try_from(name.to_owned()).ok();
        let requested = settings.server_name.as_deref().or(host).and_then(own_name);
        let verified = settings.verify_name.as_deref().and_then(own_name);
        let name = requested.or_else(|| verified.clone());
        // The configuration requires a name unless any certificate is accepted; the address requests none.
        let name = name.unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
        let config = files.config(verified).ok()?;
        Some(OutboundTls::new(Arc::new(config), name))
    }
}

/// The configuration of TLS to a server that is no backend. `ca` is a file with its issuers, instead of those of the
/// system.
///
/// # Errors
/// The issuers cannot be read.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let issuers = match ca {
        Some(ca) => Issuers::read(ca, &provider),
        None => Issuers::of_system(&provider),
    };
    let files = PoolTlsFiles { issuers: Some(issuers?), certificate: None, provider };
    files.config(None).map(Arc::new).map_err(|error| error.to_string())
}

impl PoolTlsFiles {
    fn config(&self, verified: Option<ServerName<'static>>) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous();
        let trust = self.issuers.as_ref().map(|Issuers { verifier, listed }| Trust {
            verifier: verifier.clone(),
            listed: listed.clone(),
            name: verified,
        });
        let verifier = BackendVerifier { provider: self.provider.clone(), trust };
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.certificate {
            Some(certificate) => builder.with_client_cert_resolver(certificate.clone()),
            None => builder.with_no_client_auth(),
        };
        // WebSockets need HTTP/1.1 (RFC 6455 4.1); a backend may prefer HTTP/2 if it can choose.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(config)
    }
}

impl Issuers {
    /// The issuers in a file.
    fn read(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let listed: Arc<[CertificateDer<'static>]> = pair::issuers(path)?.into();
        let mut roots = RootCertStore::empty();
        for (certificate, number) in listed.iter().zip(1..) {
            roots.add(certificate.clone()).map_err(|error| {
                format!("{}: certificate {number} cannot be used: {error}", path.display())
            })?;
        }
        Self::with(roots, listed, provider)
    }

    /// The issuers that this system trusts.
    fn of_system(provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some systems have certificates that no verifier can use.
        let (added, _unusable) = roots.add_parsable_certificates(found.certs);
        if added > 0 {
            return Self::with(roots, Arc::new([]), provider);
        }
        let cause = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        Err(format!(
            "this system has no trusted issuers{cause}: install ca-certificates, or write ca = \"ca.pem\" with the \
             issuer of the servers"
        ))
    }

    fn with(
        roots: RootCertStore,
        listed: Arc<[CertificateDer<'static>]>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map(|verifier| Self { verifier, listed })
            .map_err(|error| error.to_string())
    }
}

/// Reads a client certificate. Problems are reported with their keys.
fn read(
    files: &ClientCertificate,
    warn: &mut dyn FnMut(String),
) -> Result<Arc<SingleCertAndKey>, Vec<(&'static str, String)>> {
    let source = CertificateSource::Files { chain: files.chain.clone(), key: files.key.clone() };
    let named = |of: &'static str| if of == "chain" { "certificate" } else { of };
    let pair = pair::read(&source).map_err(|problems| {
        problems.into_iter().map(|of| (named(of.of), of.problem)).collect::<Vec<_>>()
    })?;
    // Warnings about the chain concern browsers.
    pair.warnings.into_iter().filter(|of| of.of == "key").for_each(|of| warn(of.problem));
    Ok(Arc::new(SingleCertAndKey::from(pair.key)))
}

/// Sessions kept for one backend; connections that are opened at the same time each use one.
const SESSIONS_MAX: usize = 32;

mod verifier;
