//! Signs certificates for the requests of clients, and makes wrong ones where the test wants it.

use std::collections::BTreeSet;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    IsCa, KeyPair, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::parse_x509_certificate;

use super::problem::Problem;
use super::state::now;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongChain {
    /// It is for a key that the client does not have.
    OtherKey,
    /// It is for a name that was not ordered.
    OtherNames,
    /// One of the ordered names is missing.
    MissingName,
    /// It expired a day ago.
    Expired,
    /// The next certificate in the chain is not its issuer.
    OtherIssuer,
    /// The next certificate in the chain has the name of its issuer, and another key.
    OtherIssuerKey,
    /// The chain is cut within its first certificate.
    Cut,
    /// The chain is empty.
    Empty,
}

/// An issued certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The order that it belongs to.
    pub order: usize,
    /// The names in it.
    pub names: BTreeSet<String>,
    /// Its chain in PEM, without the root.
    pub chain: String,
    /// The certificate itself.
    pub leaf: CertificateDer<'static>,
    /// Its identifier in RFC 9773.
    pub renewal_id: String,
}

/// What is known about a certificate besides its signing request.
pub struct Wanted {
    pub names: BTreeSet<String>,
    /// The account's key, which the certificate must not have (RFC 8555 11.1).
    pub account_key: Vec<u8>,
    pub lifetime: Duration,
    pub age: Duration,
    pub wrong: Option<WrongChain>,
}

/// The keys of the CA: a root and one intermediate.
pub struct Signer {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Signer {
    /// New keys.
    pub fn new() -> Self {
        let root_params = issuer_params("tidegate tests: root");
        let root = CertifiedIssuer::self_signed(root_params, KeyPair::generate().unwrap()).unwrap();
        let params = issuer_params(INTERMEDIATE);
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(params, key, &root).unwrap();
        Self { root, intermediate }
    }

    /// The certificate that clients must trust, in PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The certificate that clients must trust.
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// A certificate for the CA's own server: chain and key.
    pub fn server_certificate(&self, name: &str) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.intermediate).unwrap();
        (vec![certificate.der().clone(), self.intermediate.der().clone()], key)
    }

    /// Checks a signing request and signs a certificate.
    ///
    /// # Errors
    ///
    /// The request is invalid, for other names, or for the account's key.
    pub fn issue(&self, request: &[u8], wanted: Wanted, order: usize) -> Result<Issued, Problem> {
        let bad = |detail: String| Problem::new(400, "badCSR", detail);
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| bad(format!("the signing request is invalid: {error}")))?;
        let name = |san: &SanType| {
            let SanType::DnsName(name) = san else { return None };
            Some(name.as_str().to_ascii_lowercase())
        };
        let names: Option<BTreeSet<_>> =
            request.params.subject_alt_names.iter().map(name).collect();
        if names.as_ref() != Some(&wanted.names) {
            return Err(bad(format!(
                "the signing request is for {names:?}, not {:?}",
                wanted.names
            )));
        }
        if request.public_key.der_bytes() == wanted.account_key {
            return Err(
                bad("certificate public key must be different than account key".to_owned()),
            );
        }
        request.params = self.params(&wanted);
        let certificate = if wanted.wrong == Some(WrongChain::OtherKey) {
            let key = KeyPair::generate().unwrap();
            request.params.signed_by(&key, &self.intermediate)
        } else {
            request.signed_by(&self.intermediate)
        };
        let certificate = certificate.unwrap();
        let mut chain = [certificate.pem(), self.intermediate.pem()].join("\n");
        match wanted.wrong {
            Some(WrongChain::OtherIssuer) => {
                chain = [certificate.pem(), self.root.pem()].join("\n");
            }
            Some(WrongChain::OtherIssuerKey) => {
                let key = KeyPair::generate().unwrap();
                let params = issuer_params(INTERMEDIATE);
                let other = CertifiedIssuer::signed_by(params, key, &self.root).unwrap();
                chain = [certificate.pem(), other.pem()].join("\n");
            }
            Some(WrongChain::Cut) => chain.truncate(certificate.pem().len() / 2),
            Some(WrongChain::Empty) => chain.clear(),
            _ => {}
        }
        let leaf = certificate.der().clone();
        Ok(Issued { order, names: wanted.names, chain, renewal_id: renewal_id(&leaf), leaf })
    }

    fn params(&self, wanted: &Wanted) -> CertificateParams {
        let names: Vec<String> = match wanted.wrong {
            Some(WrongChain::OtherNames) => vec!["other.example".to_owned()],
            Some(WrongChain::MissingName) => wanted.names.iter().skip(1).cloned().collect(),
            _ => wanted.names.iter().cloned().collect(),
        };
        let mut params = CertificateParams::new(names).unwrap();
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).unwrap();
        // Positive, and without zeros in front (X.690 8.3.2).
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        let day = Duration::from_secs(24 * 60 * 60);
        let (from, until) = match wanted.wrong {
            Some(WrongChain::Expired) => (now() - 30 * day, now() - day),
            _ => (now() - wanted.age, now() - wanted.age + wanted.lifetime),
        };
        (params.not_before, params.not_after) = (from.into(), until.into());
        params
    }
}

const INTERMEDIATE: &str = "tidegate tests: intermediate";

fn issuer_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// RFC 9773 4.1: the key identifier of the issuer and the serial number.
fn renewal_id(leaf: &CertificateDer<'_>) -> String {
    let (_, parsed) = parse_x509_certificate(leaf).unwrap();
    let issuer = parsed.extensions().iter().find_map(|extension| {
        let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() else {
            return None;
        };
        id.key_identifier.as_ref().map(|id| id.0.to_vec())
    });
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    format!("{}.{}", encode(&issuer.unwrap()), encode(parsed.raw_serial()))
}
