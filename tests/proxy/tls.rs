//! TLS with rustls' own client: versions, certificates by name, whom a connection may ask for,
//! and resumption.

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
    Backend, HANDSHAKE, Proxy, TempDir, exchange, read_response, read_to_end, route,
    within_timeout, write_certificate,
};

/// A proxy with a certificate for each list of names, the first shown by default or not, a route
/// for every host, and one TLS listener.
struct House {
    proxy: Proxy,
    certificates: Vec<CertificateDer<'static>>,
    _folders: Vec<TempDir>,
    backend: Backend,
}

impl House {
    async fn with(names: &[&[&str]], default: bool) -> Self {
        let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let mut config = format!(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\nenabled = false\n\
             [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n{}",
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
        let proxy = Proxy::start_bare(&config).await;
        Self { proxy, certificates, _folders: folders, backend }
    }

    /// What a client that trusts all of these certificates starts from.
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
        let stream = TcpStream::connect(self.proxy.address("tls").await).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        within_timeout("TLS", connecting).await.map(BufReader::new)
    }

    /// Connects, asks once for the host of this name, and says how the handshake went.
    async fn visit(&self, config: &Arc<ClientConfig>, name: &str) -> HandshakeKind {
        let mut stream = self.connect(config, name).await.unwrap();
        let request = get("/").replace("localhost", name);
        let (answer, body) = exchange(&mut stream, &request).await;
        assert_eq!((answer.status, &body[..]), (200, &b"ok"[..]), "{answer:?}");
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
async fn both_versions_are_spoken_and_told_in_the_record() {
    let house = House::with(&[&["localhost"]], false).await;
    for (n, (versions, version)) in [(TLS12, "1.2"), (TLS13, "1.3")].into_iter().enumerate() {
        let config = Arc::new(house.client(versions));
        let mut stream = house.connect(&config, "localhost").await.unwrap();
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 101);
        drop(stream);
        let record = house.proxy.nth_record("end", n + 1, |r| r["event"] == "ended").await;
        assert_eq!(
            (&record["tls_version"], &record["sni"]),
            (&version.into(), &"localhost".into())
        );
    }
}

#[tokio::test]
async fn the_stock_stream_is_a_switch_that_a_reload_turns() {
    let house = House::with(&[&["localhost"]], false).await;
    let config = Arc::new(house.client(TLS13));
    house.visit(&config, "localhost").await;
    let mut lean = house.connect(&config, "localhost").await.unwrap();
    let file = house.proxy.folder().join("proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("[server]\ntls = \"stock\"\n{text}")).unwrap();
    let told = house.proxy.reload().await;
    assert!(told["changed"].as_str().unwrap().contains("server"), "{told}");
    let mut stock = house.connect(&config, "localhost").await.unwrap();
    for stream in [&mut lean, &mut stock] {
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        assert_eq!(read_response(stream).await.status, 101);
    }
    drop((lean, stock));
    for n in 1..=2 {
        let record = house.proxy.nth_record("end", n, |r| r["event"] == "ended").await;
        assert_eq!((&record["tls_version"], &record["sni"]), (&"1.3".into(), &"localhost".into()));
    }
}

#[tokio::test]
async fn tl29_the_post_quantum_exchange_is_preferred() {
    let house = House::with(&[&["localhost"]], false).await;
    let stream = house.connect(&Arc::new(house.client(TLS13)), "localhost").await.unwrap();
    let group = stream.get_ref().get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn tl08_certificates_are_chosen_by_name() {
    let house = House::with(
        &[&["a.example", "*.w.example"], &["b.example"], &["c.example", "x.w.example"]],
        false,
    )
    .await;
    for versions in [TLS12, TLS13] {
        let config = Arc::new(house.client(versions));
        for (name, which) in [
            ("a.example", 0),
            ("A.Example", 0),
            ("y.w.example", 0),
            ("b.example", 1),
            ("c.example", 2),
            // An exact name wins over a wildcard.
            ("x.w.example", 2),
        ] {
            let stream = house.connect(&config, name).await.unwrap();
            let shown = &stream.get_ref().get_ref().1.peer_certificates().unwrap()[0];
            assert_eq!(*shown, house.certificates[which], "{name}");
        }
        for name in ["unknown.example", "w.example", "z.y.w.example", "xa.example"] {
            let error = house.connect(&config, name).await.unwrap_err();
            assert_eq!(alert(&error), AlertDescription::AccessDenied, "{name}");
        }
    }
    assert_eq!(house.proxy.end_record("tls_failed").await["stage"], "tls");
}

#[tokio::test]
async fn tl17_a_client_that_speaks_only_h2_is_told_so() {
    let house = House::with(&[&["localhost"]], false).await;
    let mut config = house.client(TLS13);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let error = house.connect(&Arc::new(config.clone()), "localhost").await.unwrap_err();
    assert_eq!(alert(&error), AlertDescription::NoApplicationProtocol);
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let stream = house.connect(&Arc::new(config), "localhost").await.unwrap();
    assert_eq!(stream.get_ref().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn tl10_tl11_rfc_h16_a_host_under_another_certificate_is_misdirected() {
    let house = House::with(&[&["a.example", "*.a.example"], &["b.example"]], true).await;
    let config = Arc::new(house.client(TLS13));
    let mut stream = house.connect(&config, "a.example").await.unwrap();
    // The same certificate covers it, or it is the default for what none covers.
    for host in ["a.example", "A.EXAMPLE.:443", "x.a.example", "unknown.example", "127.0.0.1"] {
        let (answer, _) = exchange(&mut stream, &get("/").replace("localhost", host)).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    let (answer, _) = exchange(&mut stream, &get("/").replace("localhost", "b.example")).await;
    assert_eq!((answer.status, answer.header("connection")), (421, Some("close")));
    assert_eq!(read_to_end(&mut stream).await, b"");
    let record = house.proxy.nth_outcome(1).await;
    assert_eq!((&record["end"], &record["key"]), (&"misdirected".into(), &"certificate".into()));
    // Likewise in an absolute target, and for a WebSocket.
    for request in [
        get("http://b.example/").replace("localhost", "a.example"),
        HANDSHAKE.replace("localhost", "b.example"),
    ] {
        let mut stream = house.connect(&config, "a.example").await.unwrap();
        assert_eq!(exchange(&mut stream, &request).await.0.status, 421);
    }
    assert_eq!(house.backend.heads().len(), 5);
}

#[tokio::test]
async fn rfc_h38_a_connection_ends_with_close_notify() {
    let house = House::with(&[&["localhost"]], false).await;
    for versions in [TLS12, TLS13] {
        let config = Arc::new(house.client(versions));
        let mut stream = house.connect(&config, "localhost").await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut all = Vec::new();
        // rustls tells a truncation as an error.
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all);
        within_timeout("the end", reading).await.unwrap();
        assert!(all.ends_with(b"\r\n\r\nok"));
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_in_the_record() {
    let house = House::with(&[&["localhost"]], false).await;
    let stranger = House::with(&[&["localhost"]], false).await;
    let config = Arc::new(stranger.client(TLS13));
    house.connect(&config, "localhost").await.unwrap_err();
    let record = house.proxy.nth_outcome(1).await;
    assert_eq!(record["end"], "tls_failed");
    assert!(record["detail"].as_str().unwrap().contains("alert"), "{record}");
}

#[tokio::test]
async fn a_second_connection_is_resumed_also_after_a_reload() {
    for versions in [TLS12, TLS13] {
        let house = House::with(&[&["localhost"]], false).await;
        let config = Arc::new(house.client(versions));
        let full = house.visit(&config, "localhost").await;
        assert!(matches!(full, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        for _ in 0..3 {
            assert_eq!(house.visit(&config, "localhost").await, HandshakeKind::Resumed);
        }
        let told = house.proxy.reload().await;
        assert!(told["message"].as_str().unwrap().starts_with("reloaded"), "{told}");
        assert_eq!(house.visit(&config, "localhost").await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn tl12_a_ticket_of_one_name_is_worth_nothing_for_another() {
    for versions in [TLS12, TLS13] {
        let house = House::with(&[&["a.example"], &["b.example"]], false).await;
        let mut config = house.client(versions);
        config.resumption = Resumption::store(Arc::new(Careless::default()));
        let config = Arc::new(config);
        house.visit(&config, "a.example").await;
        assert_eq!(house.visit(&config, "a.example").await, HandshakeKind::Resumed);
        let kind = house.visit(&config, "b.example").await;
        assert_ne!(kind, HandshakeKind::Resumed);
    }
}

/// Offers whatever ticket it has, to whomever.
#[derive(Debug, Default)]
struct Careless {
    hints: Mutex<HashMap<ServerName<'static>, NamedGroup>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Careless {
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
