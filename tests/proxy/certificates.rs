//! Certificates over time: renewed while tunnels are open, mismatched, expired; and the warnings
//! when they are loaded.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{
    MockBackend, Proxy, Record, TIDEGATE, TempDir, assert_relays, close_normally, get, route,
    trust_any_certificate, upgrade, wire, within_timeout, write_key,
};

pub const RENEWED: &str = "certificates renewed; open tunnels are not affected";
const REJECTED: &str = "changed certificates rejected; the previous ones stay active";
/// The clients here do not answer pings while they wait.
const NO_HEARTBEAT: &str = "[heartbeat]\ninterval = \"off\"\n";
/// Longer than two polls of the files on a busy machine.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate for `localhost`, valid from `from` to `until` days relative to now.
fn generate_certificate(from: i32, until: i32) -> (CertificateDer<'static>, String, String) {
    #[expect(clippy::disallowed_methods, reason = "validity is in wall-clock time")]
    let now = SystemTime::now();
    let at = |days: i32| match u32::try_from(days) {
        Ok(days) => now + days * DAY + Duration::from_secs(60 * 60),
        Err(_) => now - days.unsigned_abs() * DAY,
    };
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (at(from).into(), at(until).into());
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), certificate.pem(), key.serialize_pem())
}

/// Files as certbot lays them out: each version in an archive, and links to the current one.
struct Certbot(TempDir);

impl Certbot {
    fn new() -> Self {
        let folder = TempDir::new();
        fs::create_dir_all(folder.path().join("live/localhost")).unwrap();
        fs::create_dir_all(folder.path().join("archive/localhost")).unwrap();
        Self(folder)
    }

    /// Writes a version into the archive; returns its certificate.
    fn archive(&self, version: u32) -> CertificateDer<'static> {
        let (certificate, chain, key) = generate_certificate(-1, 89);
        let archive = self.0.path().join("archive/localhost");
        fs::write(archive.join(format!("fullchain{version}.pem")), chain).unwrap();
        write_key(&archive.join(format!("privkey{version}.pem")), &key);
        certificate
    }

    /// Points a link at this version, atomically.
    fn link(&self, name: &str, version: u32) {
        let live = self.0.path().join("live/localhost");
        symlink(format!("../../archive/localhost/{name}{version}.pem"), live.join("new")).unwrap();
        fs::rename(live.join("new"), live.join(format!("{name}.pem"))).unwrap();
    }

    fn config(&self, mock: &MockBackend, more: &str) -> String {
        let live = self.0.path().join("live/localhost").display().to_string();
        config(&format!("{live}/fullchain.pem"), &format!("{live}/privkey.pem"), mock, more)
    }
}

/// A TLS listener, a route for `localhost` to this backend, and this certificate.
pub fn config(chain: &str, key: &str, mock: &MockBackend, more: &str) -> String {
    let route = route(&[mock.address()], "").replace("\"*\"\norigins", "\"localhost\"\norigins");
    format!(
        "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\nchain = \"{chain}\"\nkey = \"{key}\"\n{route}{more}"
    )
}

pub async fn connect(
    client: &TlsConnector,
    address: SocketAddr,
    name: &str,
) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within_timeout("TLS", client.connect(name, stream)).await.unwrap()
}

fn peer_certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn served_certificate(proxy: &Proxy) -> CertificateDer<'static> {
    peer_certificate(
        &connect(&trust_any_certificate(), proxy.address("tls").await, "localhost").await,
    )
}

pub fn has_message<'a>(message: &'a str) -> impl Fn(&Record) -> bool + 'a {
    move |record| record["message"] == message
}

/// The configuration warnings so far.
fn warnings(proxy: &Proxy) -> Vec<String> {
    let records = proxy.records();
    let found = records.iter().filter(|record| record["message"] == "configuration warning");
    found.map(|record| record["warning"].as_str().unwrap().to_owned()).collect()
}

// Requirements: CK06.
#[tokio::test]
async fn renewal_through_symlinks_needs_no_reload() {
    let (certbot, mock) = (Certbot::new(), MockBackend::new().await);
    let old = certbot.archive(1);
    certbot.link("fullchain", 1);
    certbot.link("privkey", 1);
    let proxy = Proxy::start_bare(&certbot.config(&mock, NO_HEARTBEAT)).await;
    let (address, client) = (proxy.address("tls").await, trust_any_certificate());
    let stream = connect(&client, address, "localhost").await;
    assert_eq!(peer_certificate(&stream), old);
    let mut tunnel = upgrade(stream).await;
    let mut backend = mock.accept().await;
    assert_relays(&mut tunnel, &mut backend).await;

    let new = certbot.archive(2);
    certbot.link("fullchain", 2);
    certbot.link("privkey", 2);
    let record = proxy.late_record(RENEWAL_TIMEOUT, has_message(RENEWED)).await;
    assert_eq!((&record["generation"], &record["names"]), (&2.into(), &"localhost".into()));
    let until = record["not_after"].as_str().unwrap();
    assert!(until.starts_with("20") && until.ends_with('Z'), "{record}");
    assert_eq!(served_certificate(&proxy).await, new);
    assert_relays(&mut tunnel, &mut backend).await;
    close_normally(tunnel, backend).await;
    // A ticket issued before the renewal can still be used.
    let stream = connect(&client, address, "localhost").await;
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let mut tunnel = upgrade(stream).await;
    assert_relays(&mut tunnel, &mut mock.accept().await).await;

    let scrape = proxy.scrape().await;
    let renewals =
        |outcome| scrape.value("tidegate_certificate_renewals_total", &[("outcome", outcome)]);
    assert_eq!((renewals("applied"), renewals("rejected")), (1.0, 0.0));
    assert_eq!(scrape.value("tidegate_config_generation", &[]), 2.0);
    assert_eq!(warnings(&proxy), [""; 0]);
}

// Requirements: CK06.
#[tokio::test]
async fn mismatched_pair_keeps_the_old_certificate() {
    let (certbot, mock) = (Certbot::new(), MockBackend::new().await);
    let old = certbot.archive(1);
    certbot.link("fullchain", 1);
    certbot.link("privkey", 1);
    let proxy = Proxy::start_bare(&certbot.config(&mock, NO_HEARTBEAT)).await;
    let stream = connect(&trust_any_certificate(), proxy.address("tls").await, "localhost").await;
    let (mut tunnel, mut backend) = (upgrade(stream).await, mock.accept().await);

    let new = certbot.archive(2);
    certbot.link("fullchain", 2);
    let record = proxy.late_record(RENEWAL_TIMEOUT, has_message(REJECTED)).await;
    let error = record["error"].as_str().unwrap();
    for part in
        ["proxy.toml:10:7: ", "certificate[0].key", "live/localhost/privkey.pem", "not the key"]
    {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(served_certificate(&proxy).await, old);
    assert_relays(&mut tunnel, &mut backend).await;
    assert_eq!(proxy.health().await["generation"], 1);

    certbot.link("privkey", 2);
    proxy.late_record(RENEWAL_TIMEOUT, has_message(RENEWED)).await;
    assert_eq!(served_certificate(&proxy).await, new);
    assert_relays(&mut tunnel, &mut backend).await;
    let scrape = proxy.scrape().await;
    let renewals =
        |outcome| scrape.value("tidegate_certificate_renewals_total", &[("outcome", outcome)]);
    assert_eq!((renewals("applied"), renewals("rejected")), (1.0, 1.0));
    assert_eq!(proxy.records().iter().filter(|record| has_message(REJECTED)(record)).count(), 1);
}

// Requirements: CK12.
#[tokio::test]
async fn renewal_during_shutdown_has_no_effect() {
    let (certbot, mock) = (Certbot::new(), MockBackend::new().await);
    certbot.archive(1);
    certbot.link("fullchain", 1);
    certbot.link("privkey", 1);
    let drain =
        "[limits]\nclose_grace = \"12s\"\n[drain]\nwindow = \"100ms\"\ndeadline = \"14s\"\n";
    let mut proxy = Proxy::start_bare(&certbot.config(&mock, drain)).await;
    let stream = connect(&trust_any_certificate(), proxy.address("tls").await, "localhost").await;
    let (mut tunnel, _backend) = (upgrade(stream).await, mock.accept().await);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    // The client gets a Close and does not answer it.
    assert_eq!(wire::read_past_pings(&mut tunnel).await.unwrap().code(), 1012);
    certbot.archive(2);
    certbot.link("fullchain", 2);
    certbot.link("privkey", 2);
    assert_eq!(proxy.exit().await, Some(0));
    assert!(began.elapsed() > Duration::from_secs(11), "ended before the next poll of the files");
    let found = |record: &&Record| has_message(RENEWED)(record) || has_message(REJECTED)(record);
    assert_eq!(proxy.records().iter().find(found), None);
}

/// A folder with a certificate valid for these days relative to now, and its configuration.
async fn certificate_folder(mock: &MockBackend, from: i32, until: i32) -> (TempDir, String) {
    let folder = TempDir::new();
    let (_, chain, key) = generate_certificate(from, until);
    folder.write("own.pem", chain);
    write_key(&folder.path().join("own-key.pem"), &key);
    let at = folder.path().display();
    let config = config(&format!("{at}/own.pem"), &format!("{at}/own-key.pem"), mock, "");
    (folder, config)
}

/// The stderr of `tidegate check` for a valid file.
fn check_stderr(folder: &Path) -> String {
    let output = Command::new("timeout")
        .args(["20", TIDEGATE, "check", "--config", "proxy.toml"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(": valid: "));
    String::from_utf8(output.stderr).unwrap()
}

// Requirements: CK02.
#[tokio::test]
async fn expired_certificate_is_served_with_a_warning() {
    let mock = MockBackend::new().await;
    for (from, until, warning, ready) in [
        (-90, -2, "the certificate for localhost expired at 20", 503),
        (2, 90, "the certificate for localhost is not valid before 20", 200),
        (-90, 6, "the certificate for localhost expires in 6 days, at 20", 200),
        (-90, 29, "the certificate for localhost expires in 29 days, at 20", 200),
        (-1, 6, "", 200),
        (-50, 40, "", 200),
    ] {
        let (_folder, config) = certificate_folder(&mock, from, until).await;
        let proxy = Proxy::start_bare(&config).await;
        let stream =
            connect(&trust_any_certificate(), proxy.address("tls").await, "localhost").await;
        assert_relays(&mut upgrade(stream).await, &mut mock.accept().await).await;
        let admin = proxy.admin().await;
        assert_eq!(get(admin, "/readyz").await.0.status, ready, "{warning}");
        assert_eq!(get(admin, "/healthz").await.0.status, 200);
        let expected = usize::from(!warning.is_empty());
        let heading = "proxy.toml:9:9: certificate[0].chain: ";
        let found = warnings(&proxy);
        assert_eq!(found.len(), expected, "{found:?}");
        assert!(
            found.iter().all(|found| found.starts_with(&format!("{heading}{warning}"))),
            "{found:?}"
        );
        let output = check_stderr(proxy.folder());
        assert_eq!(output.lines().count(), expected, "{output}");
        assert!(output.is_empty() || output.starts_with(&format!("warning: {heading}{warning}")));
    }
}

// Requirements: AD07.
#[tokio::test]
async fn valid_certificate_restores_readiness() {
    let mock = MockBackend::new().await;
    let (folder, config) = certificate_folder(&mock, -90, -2).await;
    let proxy = Proxy::start_bare(&config).await;
    let admin = proxy.admin().await;
    let state = async || (get(admin, "/readyz").await.0.status, get(admin, "/healthz").await.0);
    let (ready, health) = state().await;
    assert_eq!((ready, health.status), (503, 200));
    let (_, body) = get(admin, "/readyz").await;
    assert_eq!(body, b"unready: every certificate has expired\n");
    let (_, chain, key) = generate_certificate(-1, 80);
    folder.write("own.pem", chain);
    folder.write("own-key.pem", key);
    assert_eq!(proxy.reload().await["generation"], 2);
    assert_eq!(state().await.0, 200);
    // One valid certificate is enough.
    let (_, chain, key) = generate_certificate(-90, -1);
    folder.write("old.pem", chain);
    write_key(&folder.path().join("old-key.pem"), &key);
    let at = folder.path().display();
    let more = format!("[[certificate]]\nchain = \"{at}/old.pem\"\nkey = \"{at}/old-key.pem\"\n");
    let record = proxy.reload_with("[[route]]", &format!("{more}[[route]]")).await;
    assert_eq!(record["generation"], 3);
    assert_eq!(state().await.0, 200);
}

// Requirements: CK03, CK07, CK08.
#[tokio::test]
async fn start_check_and_reload_print_the_same_warnings() {
    let mock = MockBackend::new().await;
    let (folder, config) = certificate_folder(&mock, -1, 80).await;
    let (_, other, _) = generate_certificate(-1, 80);
    let own = fs::read_to_string(folder.path().join("own.pem")).unwrap();
    folder.write("own.pem", format!("{own}{other}"));
    let mode = Permissions::from_mode(0o644);
    fs::set_permissions(folder.path().join("own-key.pem"), mode).unwrap();
    let more = route(&[mock.address()], "path = \"/more\"\n").replace("\"*\"\n", "\"b.example\"\n");
    let config = format!("{config}{}", more.replace("\"all\"", "\"more\""));
    // Without a default certificate, the last one would be an error.
    let config = config.replacen("own-key.pem\"\n", "own-key.pem\"\ndefault = true\n", 1);
    let proxy = Proxy::start_bare(&config).await;
    let expected = [
        ("proxy.toml:9:9: certificate[0].chain: ", "own.pem: the root is included"),
        ("proxy.toml:10:7: certificate[0].key: ", "may read this key (mode 0644)"),
        (
            "proxy.toml:20:8: route[1].host: ",
            "no certificate covers b.example (the certificates are",
        ),
    ];
    let as_expected = |found: &[String]| {
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, (place, words)) in found.iter().zip(expected) {
            assert!(
                found.contains(place) && found.contains(words),
                "{found} is not {place}{words}"
            );
        }
    };
    as_expected(&warnings(&proxy));
    let output = check_stderr(proxy.folder());
    as_expected(&output.lines().map(str::to_owned).collect::<Vec<_>>());
    assert!(output.lines().all(|line| line.starts_with("warning: proxy.toml:")), "{output}");
    assert_eq!(proxy.reload().await["generation"], 2);
    proxy.nth_record("warnings", 2 * expected.len(), has_message("configuration warning")).await;
    as_expected(&warnings(&proxy)[expected.len()..]);
    // The chain is sent as in the file, leaf first.
    let stream = connect(&trust_any_certificate(), proxy.address("tls").await, "localhost").await;
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap().len(), 2);
}

// Requirements: CK04.
#[tokio::test]
async fn key_material_is_never_logged() {
    let mock = MockBackend::new().await;
    let (folder, config) = certificate_folder(&mock, -1, 80).await;
    let proxy = Proxy::start_bare(&config).await;
    let path = folder.path().join("own-key.pem");
    let key = fs::read_to_string(&path).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let (cut, joined) = (&key[..key.len() / 2], key.replace('\n', ""));
    for text in [cut, &joined, &key.replacen("KEY-----\n", "KEY-----", 1), &key.repeat(2)] {
        fs::write(&path, text).unwrap();
        let record = proxy.reload().await;
        assert_eq!(record["message"], "reload rejected; the previous configuration stays active");
    }
    let found = proxy.records().iter().map(Record::to_string).collect::<String>();
    assert_eq!(found.matches("own-key.pem: ").count(), 4, "{found}");
    assert!(!found.contains(&secret[..16]), "key material in {found}");
}
