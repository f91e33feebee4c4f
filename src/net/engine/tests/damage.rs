//! What no lawful client sends, after the handshake.

use rustls::{AlertDescription, ContentType, PeerMisbehaved};

use super::*;
use crate::net::testing::forge::Forger;

/// In the middle of data, and all of it at once.
#[test]
fn a_flipped_bit_anywhere_is_bad_record_mac() {
    for versions in [TLS12, TLS13] {
        for at in [5, 12, 30, 37] {
            let mut pair = Pair::shaken(versions);
            let mut wire = pair.say(b"before");
            let begin = wire.len();
            wire.extend(pair.say(b"sixteen bytes !!"));
            wire[begin + at] ^= 0x10;
            pair.rest = wire;
            let mut plain = vec![0; pair.rest.len()];
            let mut answers = WriteBuffer::default();
            let opened = pair.server.open(&mut pair.rest, &mut plain, &mut answers);
            assert_eq!(opened.fault, Some(TlsError::DecryptError));
            assert_eq!((&plain[..opened.plain], opened.used), (&b"before"[..], pair.rest.len()));
            let heard = pair.hear(answers.bytes()).unwrap_err();
            assert_eq!(heard, TlsError::AlertReceived(AlertDescription::BadRecordMac));
            // The alert was the last word.
            answers.clear();
            assert!(pair.server.seal(&mut [], b"data", &mut answers).is_err());
            pair.server.close(&mut [], &mut answers).unwrap();
            assert!(answers.bytes().is_empty());
            let again = pair.server.open(&mut [1, 2, 3], &mut plain, &mut answers);
            assert!(again.fault.is_some() && again.used == 3);
        }
    }
}

/// rustls keeps offsets into the piece; a caller that shows it less makes it panic.
#[test]
fn sealing_goes_on_in_the_middle_of_a_handshake_message() {
    let (server, client) = configs_for(TLS13);
    let mut pair = Pair::new(server, client);
    pair.shake(usize::MAX).unwrap();
    let mut forger = Forger::new(pair.client);
    let key_update = [24, 0, 0, 1, 1];
    let (first, second) = key_update.split_at(2);
    let mut plain = vec![0; 1000];
    let mut out = WriteBuffer::default();
    let mut rest = [forger.data(b"before"), forger.record(ContentType::Handshake, first)].concat();
    let opened = pair.server.open(&mut rest, &mut plain, &mut out);
    assert_eq!((&plain[..opened.plain], opened.fault), (&b"before"[..], None));
    rest.drain(..opened.used);
    assert!(!rest.is_empty());
    pair.server.seal(&mut rest, b"data", &mut out).unwrap();
    rest.extend(forger.record(ContentType::Handshake, second));
    let opened = pair.server.open(&mut rest, &mut plain, &mut out);
    assert_eq!((opened.used, opened.fault), (rest.len(), None));
    out.clear();
    // The answer to it, and then the data.
    pair.server.seal(&mut [], b"data", &mut out).unwrap();
    assert!(out.bytes().len() > 2 * 22 + 4, "{}", out.bytes().len());
    pair.server.close(&mut [], &mut out).unwrap();
}

#[test]
fn a_failure_in_the_middle_of_a_handshake_message_has_its_alert() {
    let mut pair = Pair::shaken(TLS13);
    let mut forger = Forger::new(pair.client);
    let mut plain = vec![0; 1000];
    let mut answers = WriteBuffer::default();
    let mut rest = forger.record(ContentType::Handshake, &[24, 0]);
    let opened = pair.server.open(&mut rest, &mut plain, &mut answers);
    assert_eq!((opened.used, opened.fault), (0, None));
    rest.extend(b"\x17\x03\x03\0\x20");
    rest.extend([0; 32]);
    let opened = pair.server.open(&mut rest, &mut plain, &mut answers);
    assert_eq!(opened.fault, Some(TlsError::DecryptError));
    assert!(!answers.bytes().is_empty());
}

#[test]
fn what_brings_nothing_is_counted() {
    let forged = |make: &dyn Fn(&mut Forger) -> Vec<u8>| {
        let mut pair = Pair::shaken(TLS13);
        let mut forger = Forger::new(pair.client);
        let mut wire = make(&mut forger);
        let mut plain = vec![0; wire.len()];
        let mut answers = WriteBuffer::default();
        let opened = pair.server.open(&mut wire, &mut plain, &mut answers);
        assert!(answers.bytes().len() < 100, "{}", answers.bytes().len());
        (opened.plain, opened.fault)
    };
    let empty = |n: usize| move |f: &mut Forger| (0..n).flat_map(|_| f.data(b"")).collect();
    assert_eq!(forged(&empty(5)), (0, None));
    let fault = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
    assert_eq!(forged(&empty(1000)), (0, Some(fault)));
    let warnings = |f: &mut Forger| -> Vec<u8> {
        (0..100).flat_map(|_| f.record(ContentType::Alert, &[1, 90])).collect()
    };
    let fault = TlsError::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived);
    assert_eq!(forged(&warnings), (0, Some(fault)));
    // As large as it may be (RFC 8446 5.2), and larger.
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_384])), (16_384, None));
    let fault = TlsError::PeerSentOversizedRecord;
    assert_eq!(forged(&|f: &mut Forger| f.data(&[7; 16_385])), (0, Some(fault)));
}
