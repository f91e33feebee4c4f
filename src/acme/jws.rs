//! Signed requests (RFC 8555 6.2, RFC 7515) and the key of the account.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use data_encoding::BASE64URL_NOPAD;
use rcgen::KeyPair;
use serde_json::{Value, json};

/// The ECDSA P-256 key of an account.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    pem: String,
}

/// What identifies the signer of a request.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// The public key, for a new account.
    PublicKey,
    /// The URL of the account.
    Account(&'a str),
}

impl AccountKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self, String> {
        let made = KeyPair::generate().map_err(|error| error.to_string())?;
        Self::from_pem(&made.serialize_pem())
    }

    /// Reads a key in PKCS #8.
    ///
    /// # Errors
    /// The text is not such a key. The error does not quote it.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let unusable = || "not an ECDSA P-256 key in PKCS #8".to_owned();
        let read = KeyPair::from_pem(pem).map_err(|_| unusable())?;
        let der = read.serialize_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
        Ok(Self { pair: pair.map_err(|_| unusable())?, pem: pem.to_owned() })
    }

    /// The key in PKCS #8.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key as JSON (RFC 7518 6.2).
    pub fn public(&self) -> Value {
        // An uncompressed point: one byte for the form, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        let [x, y] = [x, y].map(|coordinate| BASE64URL_NOPAD.encode(coordinate));
        json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y })
    }

    /// The answer to a challenge with this token (RFC 8555 8.1).
    pub fn authorization(&self, token: &str) -> String {
        // RFC 7638 3.2: the required members in lexicographic order, as they are written above.
        let public = self.public().to_string();
        format!("{token}.{}", BASE64URL_NOPAD.encode(digest(&SHA256, public.as_bytes()).as_ref()))
    }

    /// Signs a request to this URL. Without a payload the request only reads (RFC 8555 6.3).
    ///
    /// # Errors
    /// There is no randomness.
    pub fn sign(
        &self,
        signer: Signer<'_>,
        url: &str,
        nonce: &str,
        payload: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        let header = match signer {
            Signer::PublicKey => {
                json!({ "alg": "ES256", "jwk": self.public(), "nonce": nonce, "url": url })
            }
            Signer::Account(account) => {
                json!({ "alg": "ES256", "kid": account, "nonce": nonce, "url": url })
            }
        };
        let payload = payload.map(Value::to_string).unwrap_or_default();
        let (header, payload) = (encoded(&header), BASE64URL_NOPAD.encode(payload.as_bytes()));
        let signed = format!("{header}.{payload}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| "cannot sign the request".to_owned())?;
        Ok(flattened(&header, &payload, signature.as_ref()).to_string().into_bytes())
    }

    /// Binds the account to an external one (RFC 8555 7.3.4), for a request to this URL.
    pub fn bind(&self, key_id: &str, mac_key: &[u8], url: &str) -> Value {
        let header = encoded(&json!({ "alg": "HS256", "kid": key_id, "url": url }));
        let payload = encoded(&self.public());
        let key = hmac::Key::new(hmac::HMAC_SHA256, mac_key);
        let tag = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
        flattened(&header, &payload, tag.as_ref())
    }
}

/// The SHA-256 of an answer to a challenge, which TLS and DNS carry (RFC 8737 3, RFC 8555 8.4).
pub fn answer_digest(answer: &str) -> Vec<u8> {
    digest(&SHA256, answer.as_bytes()).as_ref().to_vec()
}

fn encoded(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

/// The flattened form of RFC 7515 7.2.2.
fn flattened(header: &str, payload: &str, signature: &[u8]) -> Value {
    let signature = BASE64URL_NOPAD.encode(signature);
    json!({ "protected": header, "payload": payload, "signature": signature })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn decoded(text: &Value) -> Vec<u8> {
        BASE64URL_NOPAD.decode(text.as_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn signatures_verify_with_the_public_key() {
        let key = AccountKey::generate().unwrap();
        let key = AccountKey::from_pem(key.pem()).unwrap();
        let payload = json!({ "a": 1 });
        let made = key.sign(Signer::PublicKey, "https://ca/new", "n-1", Some(&payload)).unwrap();
        let made: Value = serde_json::from_slice(&made).unwrap();
        let header: Value = serde_json::from_slice(&decoded(&made["protected"])).unwrap();
        assert_eq!((&header["nonce"], &header["url"]), (&json!("n-1"), &json!("https://ca/new")));
        let mut point = vec![4];
        point.extend(decoded(&header["jwk"]["x"]));
        point.extend(decoded(&header["jwk"]["y"]));
        let signed = format!(
            "{}.{}",
            made["protected"].as_str().unwrap(),
            made["payload"].as_str().unwrap()
        );
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &decoded(&made["signature"]))
            .unwrap();
        let read = key.sign(Signer::Account("https://ca/a/1"), "u", "n", None).unwrap();
        let read: Value = serde_json::from_slice(&read).unwrap();
        assert_eq!(read["payload"], "");
    }

    /// The example of RFC 7638 3.1 has an RSA key; the members of an EC key are in the order of 3.2.
    #[test]
    fn thumbprint_has_its_members_in_order() {
        let key = AccountKey::generate().unwrap();
        let public = key.public();
        let (x, y) = (public["x"].as_str().unwrap(), public["y"].as_str().unwrap());
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let expected = BASE64URL_NOPAD.encode(digest(&SHA256, text.as_bytes()).as_ref());
        assert_eq!(key.authorization("t"), format!("t.{expected}"));
    }

    #[test]
    fn unusable_keys_are_not_quoted() {
        for text in
            ["", "secret", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"]
        {
            let error = AccountKey::from_pem(text).err().unwrap();
            assert!(!error.contains("secret") && !error.contains("c2Vj"), "{error}");
        }
    }
}
