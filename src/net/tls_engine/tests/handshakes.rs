//! All kinds of handshakes, and the alerts of failed ones.

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore};

use super::*;
use crate::net::testing::configs;

#[test]
fn second_connection_is_resumed() {
    for versions in [TLS12, TLS13] {
        let (mut server, client) = configs_for(versions);
        server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let (server, client) = (EngineConfig::new(server), Arc::new(client));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut pair = Pair::with(&server, &client);
            pair.handshake(usize::MAX).unwrap();
            assert_eq!(pair.server.common_state().handshake_kind(), Some(expected));
            assert_eq!(pair.client.handshake_kind(), Some(expected));
            assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
            let question = pair.client_sends(b"question");
            pair.server_receives(&question, 7).unwrap();
            assert_eq!(pair.server_received, b"question");
            pair.server_sends(b"answer");
        }
    }
}

/// The certificate resolver stores the requested name in a thread-local. The handshake of another
/// connection on the same thread must not leave its name to this one.
#[test]
fn server_name_is_not_taken_from_another_connection() {
    let (server, client) = configs();
    let server = EngineConfig::new(server);
    let mut pair = Pair::with(&server, &Arc::new(client));
    let hello = pair.client_records();
    let mut other = rustls::ServerConnection::new(server.rustls()).unwrap();
    other.read_tls(&mut &hello[..]).unwrap();
    other.process_new_packets().unwrap();
    assert_eq!(other.server_name(), Some("localhost"));
    pair.server_receives(&hello[..10], usize::MAX).unwrap();
    assert_eq!(pair.server.take_server_name(), None);
}

/// The client offers the wrong group first (RFC 8446 4.1.4).
#[test]
fn hello_retry_request_succeeds() {
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
        pair.handshake(piece).unwrap();
        let kind = HandshakeKind::FullWithHelloRetryRequest;
        assert_eq!(pair.client.handshake_kind(), Some(kind));
        assert_eq!(pair.server.take_server_name().as_deref(), Some("localhost"));
        pair.server_sends(b"answer");
    }
}

#[test]
fn client_certificates_can_be_required() {
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
                pair.handshake(piece).unwrap();
                assert_eq!(pair.server.common_state().peer_certificates().unwrap().len(), 1);
                pair.server_sends(b"answer");
            } else {
                let error = failed_handshake(&mut pair);
                assert_eq!(error, TlsError::NoCertificatesPresented);
            }
        }
    }
}

/// The error of the server; the client must receive an alert.
fn failed_handshake(pair: &mut Pair) -> TlsError {
    for _ in 0..10 {
        let sent = pair.client_records();
        pair.rest.extend(sent);
        let mut plain = vec![0; pair.rest.len()];
        let mut replies = WriteBuffer::default();
        let outcome = pair.server.decrypt(
            &mut pair.rest,
            &mut plain,
            &mut replies,
            &mut DecryptBudget::new(),
        );
        pair.rest.drain(..outcome.consumed);
        let received = pair.client_receives(replies.bytes());
        if let Some(error) = outcome.error {
            assert!(matches!(received, Err(TlsError::AlertReceived(_))), "{received:?}");
            return error;
        }
        received.unwrap();
    }
    panic!("the handshake did not fail");
}

#[test]
fn failed_negotiation_sends_an_alert() {
    let (mut server, mut client) = configs();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    let error = failed_handshake(&mut Pair::new(server, client));
    assert_eq!(error, TlsError::NoApplicationProtocol);

    #[derive(Debug)]
    struct None;
    impl ResolvesServerCert for None {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Option::None
        }
    }
    let (mut server, client) = configs();
    server.cert_resolver = Arc::new(None);
    let error = failed_handshake(&mut Pair::new(server, client));
    assert!(matches!(error, TlsError::General(_)), "{error}");
}
