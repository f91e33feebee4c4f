//! Verifies the signatures of requests (RFC 8555 6.2), with ring's interface to AWS-LC and no JOSE library.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::problem::Problem;

/// A public key of the client: a point of the curve P-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey {
    x: String,
    y: String,
}

/// The parts of a signed request that are known before its key.
pub struct Jws {
    protected: Value,
    payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

impl AccountKey {
    /// Reads a JSON Web Key.
    ///
    /// # Errors
    ///
    /// The key is not one for ES256.
    pub fn from_jwk(jwk: &Value) -> Result<Self, Problem> {
        let part = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
        if (part("kty").as_str(), part("crv").as_str()) != ("EC", "P-256") {
            return Err(Problem::new(400, "badPublicKey", "only P-256 keys are accepted here"));
        }
        if jwk.get("d").is_some() {
            return Err(Problem::new(400, "badPublicKey", "the private key was sent"));
        }
        Ok(Self { x: part("x"), y: part("y") })
    }

    /// The thumbprint of RFC 7638, as in key authorizations.
    pub fn thumbprint(&self) -> String {
        let canonical = format!(
            "{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{}\",\"y\":\"{}\"}}",
            self.x, self.y
        );
        BASE64URL_NOPAD.encode(digest(&SHA256, canonical.as_bytes()).as_ref())
    }

    /// The uncompressed point (SEC 1 2.3.3).
    ///
    /// # Errors
    ///
    /// The coordinates are not 32 bytes each.
    pub fn point(&self) -> Result<Vec<u8>, Problem> {
        let point = [vec![4], decoded(&self.x)?, decoded(&self.y)?].concat();
        if point.len() == 65 { Ok(point) } else { Err(Problem::malformed("not a point of P-256")) }
    }
}

impl Jws {
    /// Reads the flattened JSON serialization.
    ///
    /// # Errors
    ///
    /// A part is missing or invalid.
    pub fn parse(object: &Value) -> Result<Self, Problem> {
        let text = |name: &str| {
            object[name].as_str().ok_or_else(|| Problem::malformed(format!("no {name} in the JWS")))
        };
        let (protected, payload) = (text("protected")?, text("payload")?);
        if object.get("header").is_some() {
            return Err(Problem::malformed("the JWS has an unprotected header (RFC 8555 6.2)"));
        }
        let header = serde_json::from_slice(&decoded(protected)?)
            .map_err(|_| Problem::malformed("the protected header is not JSON"))?;
        Ok(Self {
            protected: header,
            payload: decoded(payload)?,
            signed: format!("{protected}.{payload}"),
            signature: decoded(text("signature")?)?,
        })
    }

    /// A text of the protected header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.protected[name].as_str().unwrap_or_default()
    }

    /// The key in the protected header, if there is one.
    pub fn jwk(&self) -> Option<&Value> {
        self.protected.get("jwk")
    }

    /// The payload; `None` if it is empty, as in POST-as-GET (RFC 8555 6.3).
    ///
    /// # Errors
    ///
    /// It is not JSON.
    pub fn payload(&self) -> Result<Option<Value>, Problem> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        let value = serde_json::from_slice(&self.payload);
        value.map(Some).map_err(|_| Problem::malformed("the payload is not JSON"))
    }

    /// Checks algorithm and signature.
    ///
    /// # Errors
    ///
    /// The algorithm is not ES256, or the signature is not by this key.
    pub fn verify(&self, key: &AccountKey) -> Result<(), Problem> {
        if self.header("alg") != "ES256" {
            return Err(Problem::new(400, "badSignatureAlgorithm", "only ES256 is accepted here"));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point()?)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Problem::malformed("the signature of the JWS is wrong"))
    }

    /// Checks a MAC with HS256, and returns the key that it binds (RFC 8555 7.3.4).
    ///
    /// # Errors
    ///
    /// The algorithm is another, or the MAC is not by this secret.
    pub fn bound_key(&self, secret: &[u8]) -> Result<AccountKey, Problem> {
        let wrong = |detail: &str| Problem::new(403, "unauthorized", detail);
        if self.header("alg") != "HS256" || !self.header("nonce").is_empty() {
            return Err(wrong("an external account binding has alg HS256 and no nonce"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, self.signed.as_bytes(), &self.signature)
            .map_err(|_| wrong("the external account binding has a wrong MAC"))?;
        AccountKey::from_jwk(&self.payload()?.unwrap_or_default())
    }
}

/// Decodes base64url without padding.
///
/// # Errors
///
/// It is not base64url.
pub fn decoded(text: &str) -> Result<Vec<u8>, Problem> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| Problem::malformed("not base64url without padding"))
}
