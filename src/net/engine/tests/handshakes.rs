//! Handshakes of every kind, and the alerts of those that fail.

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore};

use super::*;
use crate::net::testing::configs;

#[test]
fn a_second_connection_is_resumed() {
    for versions in [TLS12, TLS13] {
        let (mut server, client) = configs_for(versions);
        server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let (server, client) = (EngineConfig::new(server), Arc::new(client));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut pair = Pair::with(&server, &client);
            pair.shake(usize::MAX).unwrap();
            assert_eq!(pair.server.common_state().handshake_kind(), Some(expected));
            assert_eq!(pair.client.handshake_kind(), Some(expected));
            assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
            let question = pair.say(b"question");
            pair.arrive(&question, 7).unwrap();
            assert_eq!(pair.got, b"question");
            pair.answer(b"answer");
        }
    }
}

/// A connection of tokio-rustls on the same thread leaves its name behind.
#[test]
fn a_name_is_not_told_by_another_connection() {
    let (server, client) = configs();
    let server = EngineConfig::new(server);
    let mut pair = Pair::with(&server, &Arc::new(client));
    let hello = pair.sent();
    let mut stock = rustls::ServerConnection::new(server.rustls()).unwrap();
    stock.read_tls(&mut &hello[..]).unwrap();
    stock.process_new_packets().unwrap();
    assert_eq!(stock.server_name(), Some("localhost"));
    pair.arrive(&hello[..10], usize::MAX).unwrap();
    assert_eq!(pair.server.take_server_name(), None);
}

/// The client's guess at the group was wrong (RFC 8446 4.1.4).
#[test]
fn a_hello_may_have_to_be_said_again() {
    for piece in [1, 500, usize::MAX] {
        let (mut server, client) = configs_for(TLS13);
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::SECP384R1];
        server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(TLS13)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(server.cert_resolver);
        let mut pair = Pair::new(server, client);
        pair.shake(piece).unwrap();
        let kind = HandshakeKind::FullWithHelloRetryRequest;
        assert_eq!(pair.client.handshake_kind(), Some(kind));
        assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
        pair.answer(b"answer");
    }
}

#[test]
fn a_client_may_be_asked_for_a_certificate() {
    for versions in [TLS12, TLS13] {
        for (shown, piece) in [(true, 1), (true, usize::MAX), (false, usize::MAX)] {
            let (server, client) = configs_for(versions);
            let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let server = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_client_cert_verifier(verifier.build().unwrap())
                .with_cert_resolver(server.cert_resolver);
            let mut client = client;
            if shown {
                let key = made.signing_key.serialize_der().try_into().unwrap();
                let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let key = CertifiedKey::new(vec![made.cert.der().clone()], key);
                client.client_auth_cert_resolver =
                    Arc::new(rustls::sign::SingleCertAndKey::from(key));
            }
            let mut pair = Pair::new(server, client);
            if shown {
                pair.shake(piece).unwrap();
                assert_eq!(pair.server.common_state().peer_certificates().unwrap().len(), 1);
                pair.answer(b"answer");
            } else {
                let fault = shake_in_vain(&mut pair);
                assert_eq!(fault, TlsError::NoCertificatesPresented);
            }
        }
    }
}

/// The fault at the server; what the client hears of it must be an alert.
fn shake_in_vain(pair: &mut Pair) -> TlsError {
    for _ in 0..10 {
        let sent = pair.sent();
        pair.rest.extend(sent);
        let mut plain = vec![0; pair.rest.len()];
        let mut answers = WriteBuffer::default();
        let opened = pair.server.open(&mut pair.rest, &mut plain, &mut answers);
        pair.rest.drain(..opened.used);
        let heard = pair.hear(answers.bytes());
        if let Some(fault) = opened.fault {
            assert!(matches!(heard, Err(TlsError::AlertReceived(_))), "{heard:?}");
            return fault;
        }
        heard.unwrap();
    }
    panic!("there was no fault");
}

#[test]
fn refusals_are_told_by_alerts() {
    let (mut server, mut client) = configs();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    let fault = shake_in_vain(&mut Pair::new(server, client));
    assert_eq!(fault, TlsError::NoApplicationProtocol);

    #[derive(Debug)]
    struct None;
    impl ResolvesServerCert for None {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Option::None
        }
    }
    let (mut server, client) = configs();
    server.cert_resolver = Arc::new(None);
    let fault = shake_in_vain(&mut Pair::new(server, client));
    assert!(matches!(fault, TlsError::General(_)), "{fault}");
}
