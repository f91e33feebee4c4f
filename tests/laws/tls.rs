//! The laws of the TLS engine: whatever arrives, in whatever pieces, it does not panic, keeps to
//! its bounds, and hands out nothing but what rustls' own client said, in order.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tidegate::net::engine::{Engine, EngineConfig, ServerEngine};
use tidegate::net::scratch::Outbox;

/// Lets a client and its server talk as `script` says. Its first byte chooses what they speak.
pub fn drive(script: &[u8]) {
    let Some((mode, script)) = script.split_first() else { return };
    if mode & 2 != 0 {
        return strangers(script);
    }
    let mut scene = Scene::new(&CONFIGS[usize::from(mode & 1)], mode & 4 == 0);
    let mut script = script.iter().copied();
    while let Some(tag) = script.next() {
        let number = usize::from(script.next().unwrap_or_default());
        match tag % 10 {
            0 | 1 => scene.client_says(number * number),
            2 => scene.arrive(number),
            3 => scene.arrive(usize::MAX),
            4 => scene.server_says(number * number),
            5 => drop(scene.client.refresh_traffic_keys()),
            6 => scene.flip(number),
            7 => scene.insert(number, &[tag, number as u8, 3, 0, 1]),
            8 if !scene.client.is_handshaking() => scene.client.send_close_notify(),
            8 => {}
            _ => scene.server_closes(),
        }
        scene.collect();
    }
    scene.arrive(usize::MAX);
}

/// Bytes that no client of ours made; the first of each piece is its length.
fn strangers(mut script: &[u8]) {
    let mut server = ServerEngine::new(&CONFIGS[0].0).expect("a lawful configuration");
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

/// One `open`, with what can be said of it in any case. True if nothing more will be read.
fn open(
    server: &mut ServerEngine,
    rest: &mut Vec<u8>,
    got: &mut Vec<u8>,
    told: &mut Vec<u8>,
) -> bool {
    let mut plain = vec![0; rest.len()];
    let mut answers = Outbox::default();
    let opened = server.open(rest, &mut plain, &mut answers);
    assert!(opened.used <= rest.len() && opened.plain <= opened.used.max(1));
    assert!(answers.bytes().len() < 8 * 1024, "{}", answers.bytes().len());
    rest.drain(..opened.used);
    got.extend_from_slice(&plain[..opened.plain]);
    told.extend_from_slice(answers.bytes());
    opened.closed || opened.fault.is_some()
}

/// A client, a server, and what is under way between them.
struct Scene {
    client: ClientConnection,
    server: ServerEngine,
    /// Sent by the client, not arrived.
    wire: Vec<u8>,
    rest: Vec<u8>,
    said: Vec<u8>,
    got: Vec<u8>,
    /// Sealed by the server.
    answered: Vec<u8>,
    heard: Vec<u8>,
    tampered: bool,
    /// By the server.
    closed: bool,
    over: bool,
}

impl Scene {
    fn new((server, client): &(EngineConfig, Arc<ClientConfig>), shaken: bool) -> Self {
        let name = ServerName::try_from("localhost").expect("a lawful name");
        let mut scene = Self {
            client: ClientConnection::new(client.clone(), name).expect("a lawful configuration"),
            server: ServerEngine::new(server).expect("a lawful configuration"),
            wire: Vec::new(),
            rest: Vec::new(),
            said: Vec::new(),
            got: Vec::new(),
            answered: Vec::new(),
            heard: Vec::new(),
            tampered: false,
            closed: false,
            over: false,
        };
        scene.collect();
        while shaken && (scene.server.is_handshaking() || scene.client.is_handshaking()) {
            scene.arrive(usize::MAX);
        }
        scene
    }

    fn client_says(&mut self, len: usize) {
        if self.client.is_handshaking() {
            return;
        }
        let data: Vec<u8> = (self.said.len()..self.said.len() + len).map(|n| n as u8).collect();
        let taken = self.client.writer().write(&data).unwrap_or_default();
        self.said.extend_from_slice(&data[..taken]);
    }

    /// What the client sends is under way.
    fn collect(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).expect("memory takes all");
        }
    }

    /// The server gets the next bytes, and the client its answer.
    fn arrive(&mut self, len: usize) {
        let arriving = self.wire.drain(..len.min(self.wire.len()));
        // In a debug build, rustls asserts that no fault is found after its own farewell.
        if self.over || (self.closed && self.tampered) {
            return;
        }
        self.rest.extend(arriving);
        let mut answers = Vec::new();
        self.over = open(&mut self.server, &mut self.rest, &mut self.got, &mut answers);
        assert!(self.said.starts_with(&self.got), "it made something up");
        self.hear(&answers);
        self.collect();
    }

    fn server_says(&mut self, len: usize) {
        let data = vec![self.answered.len() as u8; len];
        let mut out = Outbox::default();
        if self.server.seal(&mut self.rest, &data, &mut out).is_ok() {
            self.answered.extend_from_slice(&data);
            assert!(out.bytes().len() < len + (len / 16_384 + 3) * 48 + 300);
        }
        self.hear(out.bytes());
    }

    fn server_closes(&mut self) {
        let mut out = Outbox::default();
        self.closed |= self.server.close(&mut self.rest, &mut out).is_ok();
        self.hear(out.bytes());
    }

    /// A client that was not lied about understands all that it is told.
    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let read = self.client.read_tls(&mut bytes).unwrap_or_default();
            let state = self.client.process_new_packets();
            assert!(state.is_ok() || self.tampered, "{state:?}");
            let Ok(state) = state else { return };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut plain).expect("it is there");
            self.heard.append(&mut plain);
            if read == 0 {
                return;
            }
        }
        assert!(self.answered.starts_with(&self.heard));
        assert!(self.heard.len() == self.answered.len() || self.tampered);
    }

    /// Somebody between them changes a bit of what is under way.
    fn flip(&mut self, at: usize) {
        let len = self.wire.len();
        if len > 0 {
            self.wire[at % len] ^= 1 << (at % 8);
            self.tampered = true;
        }
    }

    /// Or adds to it.
    fn insert(&mut self, at: usize, bytes: &[u8]) {
        let at = at % (self.wire.len() + 1);
        self.wire.splice(at..at, bytes.iter().copied());
        self.tampered = true;
    }
}

/// TLS 1.3 and 1.2.
static CONFIGS: LazyLock<[(EngineConfig, Arc<ClientConfig>); 2]> = LazyLock::new(|| {
    [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let chain = vec![made.cert.der().clone()];
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).expect("a certificate");
        let mut server = ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from(key))
            .expect("a lawful configuration");
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
        fn every_connection_keeps_the_laws(script in prop::collection::vec(any::<u8>(), 1..80)) {
            super::drive(&script);
        }
    }

    /// What the fuzzer has found worth keeping.
    #[test]
    fn the_corpus_of_tls_keeps_the_laws() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/tls");
        let files: Vec<_> = fs::read_dir(corpus).expect("a corpus").collect();
        assert!(files.len() >= 10, "the corpus of tls is here");
        for file in files {
            super::drive(&fs::read(file.expect("a file").path()).expect("readable"));
        }
    }
}
