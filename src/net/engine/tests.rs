//! The engine against rustls' own client, without IO: bytes are carried by hand.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

use super::*;
use crate::net::testing::configs_for;

mod damage;
mod handshakes;

/// Both ends of a connection, and all that its server has read.
struct Pair {
    server: ServerEngine,
    client: ClientConnection,
    /// What the server was given and did not use.
    rest: Vec<u8>,
    got: Vec<u8>,
    /// What the client was told.
    heard: Vec<u8>,
    closed: bool,
}

impl Pair {
    fn new(server: ServerConfig, client: ClientConfig) -> Self {
        Self::with(&EngineConfig::new(server), &Arc::new(client))
    }

    fn with(server: &EngineConfig, client: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            server: ServerEngine::new(server).unwrap(),
            client: ClientConnection::new(client.clone(), name).unwrap(),
            rest: Vec::new(),
            got: Vec::new(),
            heard: Vec::new(),
            closed: false,
        }
    }

    /// Its handshake is done.
    fn shaken(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let (server, client) = configs_for(versions);
        let mut pair = Self::new(server, client);
        pair.shake(usize::MAX).unwrap();
        pair
    }

    /// Shakes hands, the client's bytes arriving in pieces.
    fn shake(&mut self, piece: usize) -> Result<(), TlsError> {
        while self.server.is_handshaking() || self.client.is_handshaking() {
            let sent = self.sent();
            assert!(!sent.is_empty(), "both wait");
            self.arrive(&sent, piece)?;
        }
        Ok(())
    }

    /// What the client has to send.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    /// Bytes arrive in pieces, and the client gets the answers.
    fn arrive(&mut self, bytes: &[u8], piece: usize) -> Result<(), TlsError> {
        for piece in bytes.chunks(piece) {
            self.rest.extend_from_slice(piece);
            let mut plain = vec![0; self.rest.len()];
            let mut answers = WriteBuffer::default();
            let opened = self.server.open(&mut self.rest, &mut plain, &mut answers);
            self.rest.drain(..opened.used);
            self.got.extend_from_slice(&plain[..opened.plain]);
            self.closed |= opened.closed;
            let heard = self.hear(answers.bytes());
            if let Some(fault) = opened.fault {
                return Err(fault);
            }
            heard.unwrap();
        }
        Ok(())
    }

    /// The client gets bytes.
    fn hear(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets()?;
            let begin = self.heard.len();
            self.heard.resize(begin + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut self.heard[begin..]).unwrap();
        }
        Ok(())
    }

    /// What the client sends for `data`.
    fn say(&mut self, data: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(data).unwrap();
        self.sent()
    }

    /// The server says `data`, and the client hears it.
    fn answer(&mut self, data: &[u8]) {
        let mut out = WriteBuffer::default();
        self.server.seal(&mut self.rest, data, &mut out).unwrap();
        self.hear(out.bytes()).unwrap();
        assert!(std::mem::take(&mut self.heard) == data);
    }
}

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

const PIECES: [usize; 15] =
    [1, 2, 3, 5, 7, 16, 21, 22, 23, 100, 1460, 4096, 16405, 16406, usize::MAX];

#[test]
fn any_pieces_make_the_same_connection() {
    for versions in [TLS12, TLS13] {
        for piece in PIECES {
            let (server, client) = configs_for(versions);
            let mut pair = Pair::new(server, client);
            pair.shake(piece).unwrap();
            assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
            assert_eq!(pair.server.common_state().protocol_version(), Some(versions[0].version));
            converse(&mut pair, versions, piece);
        }
    }
}

/// Data of all sizes, key updates of both kinds (RFC 8446 4.6.3) in the middle of it, and both
/// ends.
fn converse(pair: &mut Pair, versions: &[&SupportedProtocolVersion], piece: usize) {
    let mut said = Vec::new();
    let mut wire = Vec::new();
    for (n, len) in [1, 2, 100, 16_384, 16_385, 40_000].into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| (i + n) as u8).collect();
        wire.extend(pair.say(&data));
        said.extend(data);
        if versions == TLS13 && n % 2 == 0 {
            pair.client.refresh_traffic_keys().unwrap();
            wire.extend(pair.sent());
        }
    }
    pair.arrive(&wire, piece).unwrap();
    assert!(pair.got == said, "in pieces of {piece}");
    assert!(pair.rest.is_empty());
    // What answers a key update goes with what is sent next.
    pair.answer(&vec![5; 40_000]);
    pair.answer(b"again");

    pair.client.send_close_notify();
    let farewell = pair.sent();
    assert!(!pair.closed);
    pair.arrive(&farewell, piece).unwrap();
    assert!(pair.closed);
    // Half closed (RFC 8446 6.1).
    pair.answer(b"late");
    let mut out = WriteBuffer::default();
    pair.server.close(&mut [], &mut out).unwrap();
    pair.hear(out.bytes()).unwrap();
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0);
    out.clear();
    pair.server.close(&mut [], &mut out).unwrap();
    assert!(out.bytes().is_empty());
    assert!(pair.server.seal(&mut [], b"never", &mut out).is_err() && out.bytes().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..Default::default()
    })]

    /// One stream of bytes, and two ways to cut it.
    #[test]
    fn any_split_gives_the_same_plaintext(
        sizes in proptest::collection::vec(1_usize..5_000, 1..8),
        cuts in proptest::collection::vec(1_usize..3_000, 1..40),
    ) {
        let mut pair = Pair::shaken(TLS13);
        let mut said = Vec::new();
        let mut wire = Vec::new();
        for (n, len) in sizes.into_iter().enumerate() {
            wire.extend(pair.say(&vec![n as u8; len]));
            said.resize(said.len() + len, n as u8);
            pair.client.refresh_traffic_keys().unwrap();
            wire.extend(pair.sent());
        }
        let mut wire = &wire[..];
        for cut in cuts.into_iter().cycle() {
            let (now, later) = wire.split_at(cut.min(wire.len()));
            pair.arrive(now, usize::MAX).unwrap();
            pair.answer(b"in between");
            wire = later;
            if wire.is_empty() {
                break;
            }
        }
        prop_assert!(pair.got == said);
    }
}
