//! What the engine does with records that violate the protocol after the handshake: damaged, split,
//! empty and too large ones.

use rustls::{AlertDescription, ContentType, PeerMisbehaved};

use super::*;
use crate::net::testing::forge::Forger;

/// Every flipped bit of a record fails its authentication (RFC 8446 5.2). The damaged record follows a
/// valid one in the same read, whose data is still delivered.
#[test]
fn any_flipped_bit_sends_bad_record_mac() {
    for versions in [TLS12, TLS13] {
        // The first byte after the record header (5 bytes), and others of the ciphertext and its tag.
        for at in [5, 12, 30, 37] {
            let mut pair = Pair::connected(versions);
            let mut ciphertext = pair.client_sends(b"before");
            let second_record = ciphertext.len();
            ciphertext.extend(pair.client_sends(b"sixteen bytes !!"));
            ciphertext[second_record + at] ^= 0x10;
            pair.rest = ciphertext;
            let mut plain = vec![0; pair.rest.len()];
            let mut replies = WriteBuffer::default();
            let outcome = pair.server.decrypt(
                &mut pair.rest,
                &mut plain,
                &mut replies,
                &mut DecryptBudget::new(),
            );
            assert_eq!(outcome.error, Some(TlsError::DecryptError));
            assert_eq!(
                (&plain[..outcome.plain], outcome.consumed),
                (&b"before"[..], pair.rest.len())
            );
            let received = pair.client_receives(replies.bytes()).unwrap_err();
            assert_eq!(received, TlsError::AlertReceived(AlertDescription::BadRecordMac));
            // Nothing is sent after the alert.
            replies.clear();
            assert!(pair.server.encrypt(&mut [], b"data", &mut replies).is_err());
            pair.server.close(&mut [], &mut replies).unwrap();
            assert!(replies.bytes().is_empty());
            let again = pair.server.decrypt(
                &mut [1, 2, 3],
                &mut plain,
                &mut replies,
                &mut DecryptBudget::new(),
            );
            assert!(again.error.is_some() && again.consumed == 3);
        }
    }
}

/// rustls keeps offsets into the incomplete message and panics if it is given less input.
#[test]
fn encrypts_while_a_handshake_message_is_incomplete() {
    let (server, client) = configs_for(TLS13);
    let mut pair = Pair::new(server, client);
    pair.handshake(usize::MAX).unwrap();
    let mut forger = Forger::new(pair.client);
    // A KeyUpdate that requests one in return, in two records (RFC 8446 4.6.3).
    let (first, second) = KEY_UPDATE.split_at(2);
    let mut plain = vec![0; 1000];
    let mut out = WriteBuffer::default();
    let mut rest = [forger.data(b"before"), forger.record(ContentType::Handshake, first)].concat();
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut out, &mut DecryptBudget::new());
    assert_eq!((&plain[..outcome.plain], outcome.error), (&b"before"[..], None));
    rest.drain(..outcome.consumed);
    assert!(!rest.is_empty());
    pair.server.encrypt(&mut rest, b"data", &mut out).unwrap();
    rest.extend(forger.record(ContentType::Handshake, second));
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut out, &mut DecryptBudget::new());
    assert_eq!((outcome.consumed, outcome.error), (rest.len(), None));
    out.clear();
    // The reply to the KeyUpdate, then the data.
    pair.server.encrypt(&mut [], b"data", &mut out).unwrap();
    assert!(out.bytes().len() > 2 * RECORD_OVERHEAD + b"data".len(), "{}", out.bytes().len());
    pair.server.close(&mut [], &mut out).unwrap();
}

#[test]
fn failure_within_a_handshake_message_sends_an_alert() {
    let mut pair = Pair::connected(TLS13);
    let mut forger = Forger::new(pair.client);
    let mut plain = vec![0; 1000];
    let mut replies = WriteBuffer::default();
    let mut rest = forger.record(ContentType::Handshake, &KEY_UPDATE[..2]);
    let outcome =
        pair.server.decrypt(&mut rest, &mut plain, &mut replies, &mut DecryptBudget::new());
    assert_eq!((outcome.consumed, outcome.error), (0, None));
    // A record of application data (23) with 32 bytes that do not decrypt.
    rest.extend([23, 3, 3, 0, 32]);
    rest.extend([0; 32]);
    let outcome =
        pair.server.decrypt(&mut rest, &mut plain, &mut replies, &mut DecryptBudget::new());
    assert_eq!(outcome.error, Some(TlsError::DecryptError));
    assert!(!replies.bytes().is_empty());
}

#[test]
fn records_without_data_are_limited() {
    let forged = |make: &dyn Fn(&mut Forger) -> Vec<u8>| {
        let mut pair = Pair::connected(TLS13);
        let mut forger = Forger::new(pair.client);
        let mut ciphertext = make(&mut forger);
        let mut plain = vec![0; ciphertext.len()];
        let mut replies = WriteBuffer::default();
        let outcome = pair.server.decrypt(
            &mut ciphertext,
            &mut plain,
            &mut replies,
            &mut DecryptBudget::new(),
        );
        assert!(replies.bytes().len() < 100, "{}", replies.bytes().len());
        (outcome.plain, outcome.error)
    };
    let empty = |n: usize| move |f: &mut Forger| (0..n).flat_map(|_| f.data(b"")).collect();
    assert_eq!(forged(&empty(5)), (0, None));
    let error = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
    assert_eq!(forged(&empty(1000)), (0, Some(error)));
    let warnings = |f: &mut Forger| -> Vec<u8> {
        (0..100).flat_map(|_| f.record(ContentType::Alert, &USER_CANCELED)).collect()
    };
    let error = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived);
    assert_eq!(forged(&warnings), (0, Some(error)));
    // The maximum size (RFC 8446 5.2), and one byte more.
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_384])), (16_384, None));
    let error = TlsError::PeerSentOversizedRecord;
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_385])), (0, Some(error)));
}

/// KeyUpdate (24) of one byte, `update_requested` (RFC 8446 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];
/// A warning (1) with the description `user_canceled` (90, RFC 8446 6.1).
const USER_CANCELED: [u8; 2] = [1, 90];
/// Header, content type and tag of a record of TLS 1.3.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
