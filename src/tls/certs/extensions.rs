//! Reads what `webpki` does not expose of a certificate: its serial number, the key of its issuer, and whether it
//! requires OCSP stapling.

use rustls::pki_types::CertificateDer;

/// Parts of a certificate, as encoded in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafExtensions<'c> {
    /// The serial number, with the leading zero of a positive number.
    pub serial: &'c [u8],
    /// The identifier of the issuer's key (RFC 5280 4.2.1.1).
    pub issuer_key: Option<&'c [u8]>,
    /// Whether the certificate requires a stapled OCSP response (RFC 7633).
    pub must_staple: bool,
}

/// Reads the first certificate of a chain; `None` if it is not one.
pub fn leaf_extensions<'c>(chain: &'c [CertificateDer<'_>]) -> Option<LeafExtensions<'c>> {
    let certificate = content(SEQUENCE, &mut chain.first()?.as_ref())?;
    let mut fields = content(SEQUENCE, &mut { certificate })?;
    let mut tag_and_content = element(&mut fields)?;
    if tag_and_content.0 == VERSION {
        tag_and_content = element(&mut fields)?;
    }
    let (INTEGER, serial) = tag_and_content else { return None };
    let mut found = LeafExtensions { serial, issuer_key: None, must_staple: false };
    while let Some((tag, value)) = element(&mut fields) {
        if tag != EXTENSIONS {
            continue;
        }
        let mut list = content(SEQUENCE, &mut { value })?;
        while let Some(mut extension) = content(SEQUENCE, &mut list) {
            let id = content(OBJECT_ID, &mut extension)?;
            let mut value = element(&mut extension)?;
            if value.0 == BOOLEAN {
                value = element(&mut extension)?;
            }
            match id {
                AUTHORITY_KEY_ID => {
                    let mut ids = content(SEQUENCE, &mut { value.1 })?;
                    found.issuer_key = content(KEY_ID, &mut ids);
                }
                TLS_FEATURE => found.must_staple = true,
                _ => {}
            }
        }
    }
    Some(found)
}

/// The content of the next element if it has this tag.
fn content<'d>(tag: u8, der: &mut &'d [u8]) -> Option<&'d [u8]> {
    element(der).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Tag and content of the next element in DER (X.690 8.1), which is removed from `der`.
fn element<'d>(der: &mut &'d [u8]) -> Option<(u8, &'d [u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk()?;
    let len = match first {
        0..=0x7f => usize::from(first),
        // No certificate is longer than four bytes can say.
        0x81..=0x84 => {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    *der = after;
    Some((tag, content))
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// Context-specific tags of RFC 5280 4.1 and 4.2.1.1.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_ID: u8 = 0x80;
/// 2.5.29.35
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
/// 1.3.6.1.5.5.7.1.24
const TLS_FEATURE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, Issuer, KeyPair, SerialNumber};

    use super::*;

    fn certificate(extensions: Vec<CustomExtension>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = extensions;
        let issuer = CertificateParams::new(vec![]).unwrap();
        let issuer_key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(issuer, issuer_key);
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }

    #[test]
    fn serial_and_issuer_key_are_found() {
        let chain = [certificate(Vec::new())];
        let found = leaf_extensions(&chain).unwrap();
        // RFC 9773 4.1: with the zero that keeps the number positive.
        assert_eq!(found.serial, [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(found.issuer_key.map(<[u8]>::len), Some(20));
        assert!(!found.must_staple);
    }

    #[test]
    fn must_staple_is_found() {
        let feature = [0x30, 0x03, 0x02, 0x01, 0x05].to_vec();
        let feature = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], feature);
        assert!(leaf_extensions(&[certificate(vec![feature])]).unwrap().must_staple);
    }

    #[test]
    fn truncated_certificates_are_rejected() {
        let whole = certificate(Vec::new());
        for len in 0..whole.len() {
            let part = CertificateDer::from(whole[..len].to_vec());
            assert_eq!(leaf_extensions(&[part]), None, "{len}");
        }
        assert_eq!(leaf_extensions(&[]), None);
    }
}
