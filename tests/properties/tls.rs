//! Invariants of the TLS engine: for arbitrary input in arbitrary pieces it does not panic, keeps its
//! bounds, and returns exactly the data the rustls client sent, in order.

#![allow(clippy::expect_used, reason = "failing the test is intended")]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tidegate::net::scratch::WriteBuffer;
use tidegate::net::tls_engine::{Engine, EngineConfig, ServerEngine};
use tidegate::net::tls_records::DecryptBudget;

/// Runs a client and a server as the script says. Its first byte chooses the TLS version.
pub fn drive(script: &[u8]) {
    let Some((mode, script)) = script.split_first() else { return };
    if mode & 2 != 0 {
        return garbage(script);
    }
    let mut link = Link::new(&CONFIGS[usize::from(mode & 1)], mode & 4 == 0);
    let mut script = script.iter().copied();
    while let Some(tag) = script.next() {
        let number = usize::from(script.next().unwrap_or_default());
        match tag % 10 {
            0 | 1 => link.client_sends(number * number),
            2 => link.arrive(number),
            3 => link.arrive(usize::MAX),
            4 => link.server_sends(number * number),
            5 => drop(link.client.refresh_traffic_keys()),
            6 => link.flip(number),
            7 => link.insert(number, &[tag, number as u8, 3, 0, 1]),
            8 if !link.client.is_handshaking() => link.client.send_close_notify(),
            8 => {}
            _ => link.server_closes(),
        }
        link.collect();
    }
    link.arrive(usize::MAX);
}

/// Feeds arbitrary bytes to a server; the first byte of each piece is its length.
fn garbage(mut script: &[u8]) {
    let mut server = ServerEngine::new(&CONFIGS[0].0).expect("a valid configuration");
    let mut rest = Vec::new();
    while let Some((len, more)) = script.split_first() {
        let (piece, later) = more.split_at(usize::from(*len).min(more.len()));
        script = later;
        rest.extend_from_slice(piece);
        if open(&mut server, &mut rest, &mut Vec::new(), &mut Vec::new()) {
            assert!(rest.is_empty());
        }
        assert!(server.is_handshaking());
    }
}

/// Calls `open` and checks its bounds. Returns whether the engine reads no more.
fn open(
    server: &mut ServerEngine,
    rest: &mut Vec<u8>,
    got: &mut Vec<u8>,
    sent: &mut Vec<u8>,
) -> bool {
    loop {
        let mut plain = vec![0; rest.len()];
        let mut answers = WriteBuffer::default();
        let opened = server.decrypt(rest, &mut plain, &mut answers, &mut DecryptBudget::new());
        assert!(opened.consumed <= rest.len() && opened.plain <= opened.consumed.max(1));
        assert!(answers.bytes().len() < 8 * 1024, "{}", answers.bytes().len());
        rest.drain(..opened.consumed);
        got.extend_from_slice(&plain[..opened.plain]);
        sent.extend_from_slice(answers.bytes());
        if !opened.more {
            return opened.closed || opened.error.is_some();
        }
    }
}

/// A client, a server, and the bytes in flight between them.
struct Link {
    client: ClientConnection,
    server: ServerEngine,
    /// Sent by the client, not yet arrived.
    wire: Vec<u8>,
    rest: Vec<u8>,
    client_sent: Vec<u8>,
    server_got: Vec<u8>,
    /// Encrypted by the server.
    server_sent: Vec<u8>,
    client_got: Vec<u8>,
    tampered: bool,
    /// Whether the server has closed.
    closed: bool,
    over: bool,
}

impl Link {
    fn new((server, client): &(EngineConfig, Arc<ClientConfig>), shaken: bool) -> Self {
        let name = ServerName::try_from("localhost").expect("a valid name");
        let mut link = Self {
            client: ClientConnection::new(client.clone(), name).expect("a valid configuration"),
            server: ServerEngine::new(server).expect("a valid configuration"),
            wire: Vec::new(),
            rest: Vec::new(),
            client_sent: Vec::new(),
            server_got: Vec::new(),
            server_sent: Vec::new(),
            client_got: Vec::new(),
            tampered: false,
            closed: false,
            over: false,
        };
        link.collect();
        while shaken && (link.server.is_handshaking() || link.client.is_handshaking()) {
            link.arrive(usize::MAX);
        }
        link
    }

    fn client_sends(&mut self, len: usize) {
        if self.client.is_handshaking() {
            return;
        }
        let data: Vec<u8> =
            (self.client_sent.len()..self.client_sent.len() + len).map(|n| n as u8).collect();
        let taken = self.client.writer().write(&data).unwrap_or_default();
        self.client_sent.extend_from_slice(&data[..taken]);
    }

    /// Moves the client's output onto the wire.
    fn collect(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).expect("writing to memory");
        }
    }

    /// Delivers bytes to the server, and its output to the client.
    fn arrive(&mut self, len: usize) {
        let arriving = self.wire.drain(..len.min(self.wire.len()));
        // In debug builds rustls asserts that no error follows its own close_notify.
        if self.over || (self.closed && self.tampered) {
            return;
        }
        self.rest.extend(arriving);
        let mut answers = Vec::new();
        self.over = open(&mut self.server, &mut self.rest, &mut self.server_got, &mut answers);
        assert!(
            self.client_sent.starts_with(&self.server_got),
            "the server returned data that was not sent"
        );
        self.deliver_to_client(&answers);
        self.collect();
    }

    fn server_sends(&mut self, len: usize) {
        let data = vec![self.server_sent.len() as u8; len];
        let mut out = WriteBuffer::default();
        if self.server.encrypt(&mut self.rest, &data, &mut out).is_ok() {
            self.server_sent.extend_from_slice(&data);
            assert!(out.bytes().len() < len + (len / 16_384 + 3) * 48 + 300);
        }
        self.deliver_to_client(out.bytes());
    }

    fn server_closes(&mut self) {
        let mut out = WriteBuffer::default();
        self.closed |= self.server.close(&mut self.rest, &mut out).is_ok();
        self.deliver_to_client(out.bytes());
    }

    /// Delivers bytes to the client, which must accept them unless the wire was tampered with.
    fn deliver_to_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let read = self.client.read_tls(&mut bytes).unwrap_or_default();
            let state = self.client.process_new_packets();
            assert!(state.is_ok() || self.tampered, "{state:?}");
            let Ok(state) = state else { return };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut plain).expect("the announced data");
            self.client_got.append(&mut plain);
            if read == 0 {
                return;
            }
        }
        assert!(self.server_sent.starts_with(&self.client_got));
        assert!(self.client_got.len() == self.server_sent.len() || self.tampered);
    }

    /// Flips a bit of the client's data on the wire.
    fn flip(&mut self, at: usize) {
        let len = self.wire.len();
        if len > 0 {
            self.wire[at % len] ^= 1 << (at % 8);
            self.tampered = true;
        }
    }

    /// Inserts bytes into the client's data on the wire.
    fn insert(&mut self, at: usize, bytes: &[u8]) {
        let at = at % (self.wire.len() + 1);
        self.wire.splice(at..at, bytes.iter().copied());
        self.tampered = true;
    }
}

/// TLS 1.3 and 1.2.
static CONFIGS: LazyLock<[(EngineConfig, Arc<ClientConfig>); 2]> = LazyLock::new(|| {
    [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let chain = vec![made.cert.der().clone()];
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).expect("a certificate");
        let mut server = ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from(key))
            .expect("a valid configuration");
        server.send_tls13_tickets = 1;
        let mut client = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        (EngineConfig::new(server), Arc::new(client))
    })
});

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn random_tls_sessions_keep_the_invariants(script in prop::collection::vec(any::<u8>(), 1..80)) {
            super::drive(&script);
        }
    }

    /// The inputs the fuzzer kept.
    #[test]
    fn tls_fuzz_corpus_keeps_the_invariants() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tls");
        let files: Vec<_> = fs::read_dir(corpus).expect("a corpus").collect();
        assert!(files.len() >= 10, "the corpus of tls is incomplete");
        for file in files {
            super::drive(&fs::read(file.expect("a file").path()).expect("readable"));
        }
    }
}
