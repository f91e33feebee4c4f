//! Protocol violations after the handshake.

use rustls::{AlertDescription, ContentType, PeerMisbehaved};

use super::*;
use crate::net::testing::forge::Forger;

/// The damaged record follows a valid one in the same read.
#[test]
fn any_flipped_bit_is_bad_record_mac() {
    for versions in [TLS12, TLS13] {
        for at in [5, 12, 30, 37] {
            let mut pair = Pair::connected(versions);
            let mut wire = pair.client_sends(b"before");
            let begin = wire.len();
            wire.extend(pair.client_sends(b"sixteen bytes !!"));
            wire[begin + at] ^= 0x10;
            pair.rest = wire;
            let mut plain = vec![0; pair.rest.len()];
            let mut replies = WriteBuffer::default();
            let outcome = pair.server.decrypt(&mut pair.rest, &mut plain, &mut replies);
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
            let again = pair.server.decrypt(&mut [1, 2, 3], &mut plain, &mut replies);
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
    let key_update = [24, 0, 0, 1, 1];
    let (first, second) = key_update.split_at(2);
    let mut plain = vec![0; 1000];
    let mut out = WriteBuffer::default();
    let mut rest = [forger.data(b"before"), forger.record(ContentType::Handshake, first)].concat();
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut out);
    assert_eq!((&plain[..outcome.plain], outcome.error), (&b"before"[..], None));
    rest.drain(..outcome.consumed);
    assert!(!rest.is_empty());
    pair.server.encrypt(&mut rest, b"data", &mut out).unwrap();
    rest.extend(forger.record(ContentType::Handshake, second));
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut out);
    assert_eq!((outcome.consumed, outcome.error), (rest.len(), None));
    out.clear();
    // The reply to it, then the data.
    pair.server.encrypt(&mut [], b"data", &mut out).unwrap();
    assert!(out.bytes().len() > 2 * 22 + 4, "{}", out.bytes().len());
    pair.server.close(&mut [], &mut out).unwrap();
}

#[test]
fn failure_within_a_handshake_message_sends_an_alert() {
    let mut pair = Pair::connected(TLS13);
    let mut forger = Forger::new(pair.client);
    let mut plain = vec![0; 1000];
    let mut replies = WriteBuffer::default();
    let mut rest = forger.record(ContentType::Handshake, &[24, 0]);
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut replies);
    assert_eq!((outcome.consumed, outcome.error), (0, None));
    rest.extend(b"\x17\x03\x03\0\x20");
    rest.extend([0; 32]);
    let outcome = pair.server.decrypt(&mut rest, &mut plain, &mut replies);
    assert_eq!(outcome.error, Some(TlsError::DecryptError));
    assert!(!replies.bytes().is_empty());
}

#[test]
fn records_without_data_are_limited() {
    let forged = |make: &dyn Fn(&mut Forger) -> Vec<u8>| {
        let mut pair = Pair::connected(TLS13);
        let mut forger = Forger::new(pair.client);
        let mut wire = make(&mut forger);
        let mut plain = vec![0; wire.len()];
        let mut replies = WriteBuffer::default();
        let outcome = pair.server.decrypt(&mut wire, &mut plain, &mut replies);
        assert!(replies.bytes().len() < 100, "{}", replies.bytes().len());
        (outcome.plain, outcome.error)
    };
    let empty = |n: usize| move |f: &mut Forger| (0..n).flat_map(|_| f.data(b"")).collect();
    assert_eq!(forged(&empty(5)), (0, None));
    let error = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
    assert_eq!(forged(&empty(1000)), (0, Some(error)));
    let warnings = |f: &mut Forger| -> Vec<u8> {
        (0..100).flat_map(|_| f.record(ContentType::Alert, &[1, 90])).collect()
    };
    let error = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived);
    assert_eq!(forged(&warnings), (0, Some(error)));
    // The maximum size (RFC 8446 5.2), and one byte more.
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_384])), (16_384, None));
    let error = TlsError::PeerSentOversizedRecord;
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_385])), (0, Some(error)));
}
