//! TLS with the rustls client: versions, certificate selection, which hosts a connection may
//! request, and resumption.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustls::client::{
    ClientConfig, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, Error, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion,
};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::head::get;
use crate::support::{
    Backend, HANDSHAKE, Proxy, Record, TempDir, exchange, read_response, read_to_end, route,
    within_timeout, write_certificate,
};

/// A proxy with one TLS listener, a certificate for each list of names (the first may be the
/// default) and a route for every host.
struct TlsProxy {
    process: Proxy,
    certificates: Vec<CertificateDer<'static>>,
    _folders: Vec<TempDir>,
    backend: Backend,
}

impl TlsProxy {
    async fn new(names: &[&[&str]], default: bool) -> Self {
        let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let mut config = format!(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\nenabled = false\n\
             [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nhttp2 = false\n{}",
            route(&[backend.address], "[route.limits]\nclose_grace = \"50ms\"")
        );
        let (mut certificates, mut folders) = (Vec::new(), Vec::new());
        for (n, names) in names.iter().enumerate() {
            let folder = TempDir::new();
            certificates.push(write_certificate(folder.path(), names));
            let at = folder.path().display();
            config.push_str(&format!(
                "[[certificate]]\nchain = \"{at}/chain.pem\"\nkey = \"{at}/key.pem\"\n\
                 default = {}\n",
                default && n == 0
            ));
            folders.push(folder);
        }
        let process = Proxy::start_bare(&config).await;
        Self { process, certificates, _folders: folders, backend }
    }

    /// A client configuration that trusts all of the certificates.
    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in &self.certificates {
            roots.add(certificate.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    async fn connect(
        &self,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<BufReader<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.process.address("tls").await).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        within_timeout("TLS", connecting).await.map(BufReader::new)
    }

    /// Connects and sends one request to this host; returns the kind of handshake.
    async fn request_handshake_kind(
        &self,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> HandshakeKind {
        let mut stream = self.connect(config, name).await.unwrap();
        let request = get("/").replace("localhost", name);
        let (response, body) = exchange(&mut stream, &request).await;
        assert_eq!((response.status, &body[..]), (200, &b"ok"[..]), "{response:?}");
        stream.get_ref().get_ref().1.handshake_kind().unwrap()
    }
}

/// The alert that ended a handshake.
fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert: {error:?}, {other:?}"),
    }
}

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[tokio::test]
async fn tls_version_is_recorded() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    for (n, (versions, version)) in [(TLS12, "1.2"), (TLS13, "1.3")].into_iter().enumerate() {
        let config = Arc::new(proxy.client(versions));
        let mut stream = proxy.connect(&config, "localhost").await.unwrap();
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 101);
        drop(stream);
        let record = proxy.process.nth_record("end", n + 1, |r| r["event"] == "ended").await;
        assert_eq!(
            (&record["tls_version"], &record["sni"]),
            (&version.into(), &"localhost".into())
        );
    }
}

// Requirements: TL29.
#[tokio::test]
async fn post_quantum_key_exchange_is_preferred() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    let stream = proxy.connect(&Arc::new(proxy.client(TLS13)), "localhost").await.unwrap();
    let group = stream.get_ref().get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

// Requirements: TL08.
#[tokio::test]
async fn certificate_is_chosen_by_server_name() {
    let proxy = TlsProxy::new(
        &[&["a.example", "*.w.example"], &["b.example"], &["c.example", "x.w.example"]],
        false,
    )
    .await;
    for versions in [TLS12, TLS13] {
        let config = Arc::new(proxy.client(versions));
        for (name, which) in [
            ("a.example", 0),
            ("A.Example", 0),
            ("y.w.example", 0),
            ("b.example", 1),
            ("c.example", 2),
            // An exact name takes precedence over a wildcard.
            ("x.w.example", 2),
        ] {
            let stream = proxy.connect(&config, name).await.unwrap();
            let shown = &stream.get_ref().get_ref().1.peer_certificates().unwrap()[0];
            assert_eq!(*shown, proxy.certificates[which], "{name}");
        }
        for name in ["unknown.example", "w.example", "z.y.w.example", "xa.example"] {
            let error = proxy.connect(&config, name).await.unwrap_err();
            assert_eq!(alert(&error), AlertDescription::AccessDenied, "{name}");
        }
    }
    let expected = "no certificate covers the requested server name unknown.example, and none is \
                    marked `default = true`";
    let names_it = |record: &Record| record["detail"] == expected;
    let record = proxy.process.record("a refused name", names_it).await;
    assert_eq!((&record["end"], &record["stage"]), (&"tls_failed".into(), &"tls".into()));
}

// Requirements: TL17.
#[tokio::test]
async fn client_offering_only_h2_is_rejected() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    let mut config = proxy.client(TLS13);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = proxy.connect(&Arc::new(config.clone()), "localhost").await.unwrap_err();
    assert_eq!(alert(&error), AlertDescription::NoApplicationProtocol);
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let stream = proxy.connect(&Arc::new(config), "localhost").await.unwrap();
    assert_eq!(stream.get_ref().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

// Requirements: TL10, TL11, H16.
#[tokio::test]
async fn host_of_another_certificate_is_421() {
    let proxy = TlsProxy::new(&[&["a.example", "*.a.example"], &["b.example"]], true).await;
    let config = Arc::new(proxy.client(TLS13));
    let mut stream = proxy.connect(&config, "a.example").await.unwrap();
    // Covered by the same certificate, or by none and the certificate is the default.
    for host in ["a.example", "A.EXAMPLE.:443", "x.a.example", "unknown.example", "127.0.0.1"] {
        let (response, _) = exchange(&mut stream, &get("/").replace("localhost", host)).await;
        assert_eq!(response.status, 200, "{host}");
    }
    let (response, _) = exchange(&mut stream, &get("/").replace("localhost", "b.example")).await;
    assert_eq!((response.status, response.header("connection")), (421, Some("close")));
    assert_eq!(read_to_end(&mut stream).await, b"");
    let record = proxy.process.nth_end_record(1).await;
    assert_eq!((&record["end"], &record["key"]), (&"misdirected".into(), &"certificate".into()));
    // Also in an absolute target, and for a WebSocket.
    for request in [
        get("http://b.example/").replace("localhost", "a.example"),
        HANDSHAKE.replace("localhost", "b.example"),
    ] {
        let mut stream = proxy.connect(&config, "a.example").await.unwrap();
        assert_eq!(exchange(&mut stream, &request).await.0.status, 421);
    }
    assert_eq!(proxy.backend.heads().len(), 5);
}

// Requirements: H38.
#[tokio::test]
async fn connection_ends_with_close_notify() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    for versions in [TLS12, TLS13] {
        let config = Arc::new(proxy.client(versions));
        let mut stream = proxy.connect(&config, "localhost").await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut all = Vec::new();
        // rustls reports a truncation as an error.
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all);
        within_timeout("the end", reading).await.unwrap();
        assert!(all.ends_with(b"\r\n\r\nok"));
    }
}

#[tokio::test]
async fn untrusted_certificate_alert_is_recorded() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    let other = TlsProxy::new(&[&["localhost"]], false).await;
    let config = Arc::new(other.client(TLS13));
    proxy.connect(&config, "localhost").await.unwrap_err();
    let record = proxy.process.nth_end_record(1).await;
    assert_eq!(record["end"], "tls_failed");
    assert!(record["detail"].as_str().unwrap().contains("alert"), "{record}");
}

#[tokio::test]
async fn tls_sessions_resume_even_after_a_reload() {
    for versions in [TLS12, TLS13] {
        let proxy = TlsProxy::new(&[&["localhost"]], false).await;
        let config = Arc::new(proxy.client(versions));
        let full = proxy.request_handshake_kind(&config, "localhost").await;
        assert!(matches!(full, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        for _ in 0..3 {
            assert_eq!(
                proxy.request_handshake_kind(&config, "localhost").await,
                HandshakeKind::Resumed
            );
        }
        let reload = proxy.process.reload().await;
        assert!(reload["message"].as_str().unwrap().starts_with("reloaded"), "{reload}");
        assert_eq!(
            proxy.request_handshake_kind(&config, "localhost").await,
            HandshakeKind::Resumed
        );
    }
}

// Requirements: TL16.
#[tokio::test]
async fn tickets_permit_no_early_data() {
    let proxy = TlsProxy::new(&[&["localhost"]], false).await;
    let mut config = proxy.client(TLS13);
    config.enable_early_data = true;
    let config = Arc::new(config);
    proxy.request_handshake_kind(&config, "localhost").await;
    let second = proxy.request_handshake_kind(&config, "localhost").await;
    assert_eq!(second, HandshakeKind::Resumed);
    let name = ServerName::try_from("localhost").unwrap();
    let mut third = rustls::ClientConnection::new(config, name).unwrap();
    assert!(third.early_data().is_none());
}

// Requirements: TL12.
#[tokio::test]
async fn ticket_is_not_accepted_for_another_name() {
    for versions in [TLS12, TLS13] {
        let proxy = TlsProxy::new(&[&["a.example"], &["b.example"]], false).await;
        let mut config = proxy.client(versions);
        config.resumption = Resumption::store(Arc::new(SharedTickets::default()));
        let config = Arc::new(config);
        proxy.request_handshake_kind(&config, "a.example").await;
        assert_eq!(
            proxy.request_handshake_kind(&config, "a.example").await,
            HandshakeKind::Resumed
        );
        let kind = proxy.request_handshake_kind(&config, "b.example").await;
        assert_ne!(kind, HandshakeKind::Resumed);
    }
}

/// A session store that offers its ticket to every server.
#[derive(Debug, Default)]
struct SharedTickets {
    hints: Mutex<HashMap<ServerName<'static>, NamedGroup>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for SharedTickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.hints.lock().unwrap().insert(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.hints.lock().unwrap().get(&name.to_owned()).copied()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}
