//! The engine against rustls' own client, without I/O: the test passes the bytes.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

use super::*;
use crate::net::testing::configs_for;

mod budget;
mod handshakes;
mod violations;

/// Both ends of a connection, and what each has received.
struct Pair {
    server: ServerEngine,
    client: ClientConnection,
    /// Input that the server has not consumed.
    rest: Vec<u8>,
    server_received: Vec<u8>,
    client_received: Vec<u8>,
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
            server_received: Vec::new(),
            client_received: Vec::new(),
            closed: false,
        }
    }

    /// A pair with a complete handshake.
    fn connected(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let (server, client) = configs_for(versions);
        let mut pair = Self::new(server, client);
        pair.handshake(usize::MAX).unwrap();
        pair
    }

    /// Performs the handshake; the client's bytes arrive in pieces of this size.
    fn handshake(&mut self, piece: usize) -> Result<(), TlsError> {
        while self.server.is_handshaking() || self.client.is_handshaking() {
            let sent = self.client_records();
            assert!(!sent.is_empty(), "both ends wait");
            self.server_receives(&sent, piece)?;
        }
        Ok(())
    }

    /// The pending records of the client.
    fn client_records(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    /// Passes bytes to the server in pieces, and its replies to the client.
    fn server_receives(&mut self, bytes: &[u8], piece: usize) -> Result<(), TlsError> {
        for piece in bytes.chunks(piece) {
            self.rest.extend_from_slice(piece);
            let mut plain = vec![0; self.rest.len()];
            let mut replies = WriteBuffer::default();
            let outcome = self.server.decrypt(
                &mut self.rest,
                &mut plain,
                &mut replies,
                &mut DecryptBudget::new(),
            );
            self.rest.drain(..outcome.consumed);
            self.server_received.extend_from_slice(&plain[..outcome.plain]);
            self.closed |= outcome.closed;
            let received = self.client_receives(replies.bytes());
            if let Some(error) = outcome.error {
                return Err(error);
            }
            received.unwrap();
        }
        Ok(())
    }

    /// Passes bytes to the client.
    fn client_receives(&mut self, mut bytes: &[u8]) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets()?;
            let start = self.client_received.len();
            self.client_received.resize(start + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut self.client_received[start..]).unwrap();
        }
        Ok(())
    }

    /// The records that the client sends for `data`.
    fn client_sends(&mut self, data: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(data).unwrap();
        self.client_records()
    }

    /// The server sends `data`, and the client receives it.
    fn server_sends(&mut self, data: &[u8]) {
        let mut out = WriteBuffer::default();
        self.server.encrypt(&mut self.rest, data, &mut out).unwrap();
        self.client_receives(out.bytes()).unwrap();
        assert!(std::mem::take(&mut self.client_received) == data);
    }
}

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

const PIECES: [usize; 15] =
    [1, 2, 3, 5, 7, 16, 21, 22, 23, 100, 1460, 4096, 16405, 16406, usize::MAX];

#[test]
fn fragmentation_does_not_change_the_connection() {
    for versions in [TLS12, TLS13] {
        for piece in PIECES {
            let (server, client) = configs_for(versions);
            let mut pair = Pair::new(server, client);
            pair.handshake(piece).unwrap();
            assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
            assert_eq!(pair.server.common_state().protocol_version(), Some(versions[0].version));
            exchange_data(&mut pair, versions, piece);
        }
    }
}

/// Sends data of all sizes with key updates of both kinds (RFC 8446 4.6.3) in between, then closes
/// both directions.
fn exchange_data(pair: &mut Pair, versions: &[&SupportedProtocolVersion], piece: usize) {
    let mut sent = Vec::new();
    let mut ciphertext = Vec::new();
    for (n, len) in [1, 2, 100, 16_384, 16_385, 40_000].into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| (i + n) as u8).collect();
        ciphertext.extend(pair.client_sends(&data));
        sent.extend(data);
        if versions == TLS13 && n % 2 == 0 {
            pair.client.refresh_traffic_keys().unwrap();
            ciphertext.extend(pair.client_records());
        }
    }
    pair.server_receives(&ciphertext, piece).unwrap();
    assert!(pair.server_received == sent, "in pieces of {piece}");
    assert!(pair.rest.is_empty());
    // The reply to a key update is sent with the next data.
    pair.server_sends(&vec![5; 40_000]);
    pair.server_sends(b"again");

    pair.client.send_close_notify();
    let close_notify = pair.client_records();
    assert!(!pair.closed);
    pair.server_receives(&close_notify, piece).unwrap();
    assert!(pair.closed);
    // The other direction stays open (RFC 8446 6.1).
    pair.server_sends(b"late");
    let mut out = WriteBuffer::default();
    pair.server.close(&mut [], &mut out).unwrap();
    pair.client_receives(out.bytes()).unwrap();
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0);
    out.clear();
    pair.server.close(&mut [], &mut out).unwrap();
    assert!(out.bytes().is_empty());
    assert!(pair.server.encrypt(&mut [], b"never", &mut out).is_err() && out.bytes().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Two different fragmentations of one byte stream.
    #[test]
    fn any_split_gives_the_same_plaintext(
        sizes in proptest::collection::vec(1_usize..5_000, 1..8),
        cuts in proptest::collection::vec(1_usize..3_000, 1..40),
    ) {
        let mut pair = Pair::connected(TLS13);
        let mut sent = Vec::new();
        let mut ciphertext = Vec::new();
        for (n, len) in sizes.into_iter().enumerate() {
            ciphertext.extend(pair.client_sends(&vec![n as u8; len]));
            sent.resize(sent.len() + len, n as u8);
            pair.client.refresh_traffic_keys().unwrap();
            ciphertext.extend(pair.client_records());
        }
        let mut ciphertext = &ciphertext[..];
        for cut in cuts.into_iter().cycle() {
            let (now, later) = ciphertext.split_at(cut.min(ciphertext.len()));
            pair.server_receives(now, usize::MAX).unwrap();
            pair.server_sends(b"in between");
            ciphertext = later;
            if ciphertext.is_empty() {
                break;
            }
        }
        prop_assert!(pair.server_received == sent);
    }
}
