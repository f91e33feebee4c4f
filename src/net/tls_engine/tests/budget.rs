//! Input that exceeds the budget of one call, and sending while complete records are left.

use rustls::ContentType;

use super::*;
use crate::net::testing::forge::Forger;

/// Decrypts all of `rest` with a new budget for each call, and sends data after each call. Returns the
/// plaintext of each call.
fn decrypt_all(pair: &mut Pair, budget: impl Fn() -> DecryptBudget) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    loop {
        let mut plain = vec![0; pair.rest.len()];
        let mut replies = WriteBuffer::default();
        let outcome = pair.server.decrypt(&mut pair.rest, &mut plain, &mut replies, &mut budget());
        assert_eq!(outcome.error, None);
        pair.rest.drain(..outcome.consumed);
        received.push(plain[..outcome.plain].to_vec());
        let rest = pair.rest.clone();
        pair.server_sends(b"in between");
        assert!(pair.rest == rest);
        if !outcome.more {
            return received;
        }
    }
}

#[test]
fn many_small_records_take_several_calls() {
    for versions in [TLS12, TLS13] {
        let mut pair = Pair::connected(versions);
        let sent: Vec<u8> = (0..3000).map(|n| n as u8).collect();
        pair.rest = sent.iter().flat_map(|byte| pair.client_sends(&[*byte])).collect();
        let received = decrypt_all(&mut pair, DecryptBudget::new);
        assert_eq!(received.iter().map(Vec::len).collect::<Vec<_>>(), [500; 6]);
        assert!(received.concat() == sent && pair.rest.is_empty());
    }
}

#[test]
fn message_in_large_records_takes_one_call() {
    let mut pair = Pair::connected(TLS13);
    pair.rest = pair.client_sends(&[7; 64 * 1024]);
    assert_eq!(decrypt_all(&mut pair, DecryptBudget::new), [vec![7; 64 * 1024]]);
}

#[test]
fn key_updates_use_the_budget_up_sooner() {
    let mut pair = Pair::connected(TLS13);
    for _ in 0..10 {
        for _ in 0..30 {
            pair.client.refresh_traffic_keys().unwrap();
        }
        let records = pair.client_sends(b"x");
        pair.rest.extend(records);
    }
    let received = decrypt_all(&mut pair, DecryptBudget::new);
    assert!(received.len() == 5 && received.concat() == b"xxxxxxxxxx", "{received:?}");
}

#[test]
fn records_without_data_are_reported() {
    let mut pair = Pair::connected(TLS13);
    for _ in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
    }
    let mut input = pair.client_sends(b"data");
    let mut plain = vec![0; input.len()];
    let mut replies = WriteBuffer::default();
    let outcome =
        pair.server.decrypt(&mut input, &mut plain, &mut replies, &mut DecryptBudget::new());
    assert_eq!((outcome.without_data, outcome.plain, outcome.more), (5, 4, false));
}

/// A buffer for the plaintext that is smaller than the input.
#[test]
fn plaintext_never_exceeds_its_buffer() {
    let mut pair = Pair::connected(TLS13);
    let mut input = pair.client_sends(&[7; 60_000]);
    let mut plain = vec![0; 20_000];
    let mut received = 0;
    loop {
        let mut replies = WriteBuffer::default();
        let outcome =
            pair.server.decrypt(&mut input, &mut plain, &mut replies, &mut DecryptBudget::new());
        assert_eq!(outcome.error, None);
        assert!(outcome.plain > 0);
        input.drain(..outcome.consumed);
        received += outcome.plain;
        if !outcome.more {
            break;
        }
    }
    assert_eq!((received, input.len()), (60_000, 0));
}

/// The budget ends within a handshake message, whose second record is left with data after it.
#[test]
fn sends_while_half_a_handshake_message_is_decrypted() {
    let mut pair = Pair::connected(TLS13);
    let (server, client) = (&mut pair.server, pair.client);
    let mut forger = Forger::new(client);
    // A KeyUpdate that requests one in return (RFC 8446 4.6.3).
    let mut rest = [
        forger.data(b"before"),
        forger.record(ContentType::Handshake, &[24, 0]),
        forger.record(ContentType::Handshake, &[0, 1, 1]),
    ]
    .concat();
    let mut plain = vec![0; rest.len()];
    let mut out = WriteBuffer::default();
    let mut sizes = Vec::new();
    for calls in 1.. {
        let outcome =
            server.decrypt(&mut rest, &mut plain, &mut out, &mut DecryptBudget::of_records(1));
        assert_eq!((outcome.plain, outcome.error), (if calls == 1 { 6 } else { 0 }, None));
        rest.drain(..outcome.consumed);
        let before = rest.clone();
        out.clear();
        server.encrypt(&mut rest, b"data", &mut out).unwrap();
        assert!(rest == before);
        sizes.push(out.bytes().len());
        if !outcome.more {
            break;
        }
    }
    // The reply to the KeyUpdate precedes the data of the last call only.
    assert!(rest.is_empty() && sizes.len() == 2 && sizes[0] < sizes[1], "{sizes:?}");
    out.clear();
    server.close(&mut rest, &mut out).unwrap();
    assert!(!out.bytes().is_empty());
}

#[test]
fn closes_while_records_are_left() {
    let mut pair = Pair::connected(TLS13);
    pair.rest = (0..1000).flat_map(|_| pair.client_sends(b"x")).collect();
    let mut plain = vec![0; pair.rest.len()];
    let mut out = WriteBuffer::default();
    let outcome =
        pair.server.decrypt(&mut pair.rest, &mut plain, &mut out, &mut DecryptBudget::new());
    assert!(outcome.more);
    pair.rest.drain(..outcome.consumed);
    pair.server.close(&mut pair.rest, &mut out).unwrap();
    pair.client_receives(out.bytes()).unwrap();
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0);
    // Closed in one direction: the rest is still decrypted.
    let outcome =
        pair.server.decrypt(&mut pair.rest, &mut plain, &mut out, &mut DecryptBudget::new());
    assert_eq!((outcome.plain, outcome.more, outcome.error), (500, false, None));
}
