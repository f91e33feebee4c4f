//! The first bytes on a TLS listener, written by hand: valid, unusual and malformed ClientHello
//! messages.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Client, Proxy, TempDir, read_to_end, route, write_certificate};

/// The fields of a ClientHello (RFC 8446 4.1.2; RFC 5246 for TLS 1.2).
struct Hello<'h> {
    version: u16,
    ciphers: &'h [u16],
    sni: Option<&'h [u8]>,
    alpn: Option<&'h [&'h str]>,
    padding: usize,
}

impl Default for Hello<'_> {
    /// TLS 1.2 with common cipher suites, for `localhost`.
    fn default() -> Self {
        Self {
            version: 0x0303,
            ciphers: &[0xc02b, 0xc02c, 0xcca9],
            sni: Some(b"localhost"),
            alpn: None,
            padding: 0,
        }
    }
}

impl Hello<'_> {
    /// The handshake message without its record header.
    fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        if let Some(name) = self.sni {
            let entry = [&[0][..], &with_u16_length(name)].concat();
            extensions.extend(extension(0, &with_u16_length(&entry)));
        }
        if let Some(names) = self.alpn {
            let list: Vec<u8> = names
                .iter()
                .flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat())
                .collect();
            extensions.extend(extension(16, &with_u16_length(&list)));
        }
        // Groups: x25519, secp256r1. Signatures: ECDSA with P-256. Points: uncompressed.
        extensions.extend(extension(10, &with_u16_length(&[0, 29, 0, 23])));
        extensions.extend(extension(13, &with_u16_length(&[4, 3])));
        extensions.extend(extension(11, &[1, 0]));
        extensions.extend(extension(21, &vec![0; self.padding]));
        let ciphers: Vec<u8> =
            self.ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(0);
        body.extend(with_u16_length(&ciphers));
        body.extend([1, 0]);
        body.extend(with_u16_length(&extensions));
        [&[1, 0][..], &with_u16_length(&body)].concat()
    }

    fn record(&self) -> Vec<u8> {
        record(22, &self.message())
    }
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &with_u16_length(payload)].concat()
}

fn extension(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_u16_length(payload)].concat()
}

/// Prefixes the bytes with their length as two bytes, big-endian.
fn with_u16_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The first record the server sent.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    ServerHello,
    /// An alert, with its description number.
    Alert(u8),
    Nothing,
}

/// Sends the bytes and reads the first record of the reply.
async fn reply(proxy: &Proxy, sent: &[u8]) -> Reply {
    let mut stream = connect(proxy).await;
    // The server may close before everything is sent.
    let _ = stream.write_all(sent).await;
    first_record(&mut stream).await
}

async fn first_record(stream: &mut TcpStream) -> Reply {
    let mut head = [0; 7];
    match stream.read_exact(&mut head).await {
        Err(_) => Reply::Nothing,
        Ok(_) if head[0] == 21 => {
            assert_eq!(read_to_end(stream).await, b"");
            Reply::Alert(head[6])
        }
        Ok(_) => {
            assert_eq!((head[0], head[5]), (22, 2), "{head:?}");
            Reply::ServerHello
        }
    }
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address("tls").await).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A proxy with one certificate for `localhost`, as default certificate or not.
async fn proxy(default: bool, more: &str) -> (Proxy, TempDir) {
    let folder = TempDir::new();
    write_certificate(folder.path(), &["localhost"]);
    let at = folder.path().display();
    let routes = route(&["127.0.0.1:9".parse().unwrap()], more);
    let config = format!(
        "[log]\nformat = \"json\"\nlevel = \"debug\"\n[admin]\nenabled = false\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nhttp2 = false\n\
         [[certificate]]\nchain = \"{at}/chain.pem\"\nkey = \"{at}/key.pem\"\ndefault = {default}\n\
         {routes}"
    );
    (Proxy::start_bare(&config).await, folder)
}

// Requirements: TL02.
#[tokio::test]
async fn accepts_a_hello_sent_byte_by_byte() {
    let (proxy, _folder) = proxy(true, "").await;
    let whole = Hello::default();
    assert_eq!(reply(&proxy, &whole.record()).await, Reply::ServerHello);
    // In records of one byte each, then in segments of one byte each.
    let records: Vec<u8> = whole.message().iter().flat_map(|byte| record(22, &[*byte])).collect();
    assert_eq!(reply(&proxy, &records).await, Reply::ServerHello);
    let mut stream = connect(&proxy).await;
    for byte in whole.record() {
        stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(stream.read_u8().await.unwrap(), 22);
}

// Requirements: TL05, TL06, TL17, TL18.
#[tokio::test]
async fn rejects_unsupported_versions_ciphers_and_protocols() {
    let (proxy, _folder) = proxy(true, "").await;
    let old = [0x0300, 0x0301, 0x0302].map(|version| Hello { version, ..Hello::default() });
    let none = [0x0005, 0x002f, 0x009c];
    let hellos = [
        (&old[0], 70),
        (&old[1], 70),
        (&old[2], 70),
        (&Hello { ciphers: &none, ..Hello::default() }, 40),
        (&Hello { alpn: Some(&["h2"]), ..Hello::default() }, 120),
        (&Hello { alpn: Some(&["ftp", "http/1.0"]), ..Hello::default() }, 120),
    ];
    for (n, (hello, alert)) in hellos.into_iter().enumerate() {
        assert_eq!(reply(&proxy, &hello.record()).await, Reply::Alert(alert), "{n}");
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!((&record["end"], &record["stage"]), (&"tls_failed".into(), &"tls".into()));
    }
    // Without ALPN, and with a supported protocol in the list.
    for alpn in [None, Some(&["http/1.1"][..]), Some(&["h2", "http/1.1"])] {
        let hello = Hello { alpn, ..Hello::default() };
        assert_eq!(reply(&proxy, &hello.record()).await, Reply::ServerHello);
    }
}

// Requirements: TL07, TL08, TL09.
#[tokio::test]
async fn rejects_unknown_and_invalid_server_names() {
    let long = [b'a'; 300];
    let strange: [Option<&[u8]>; 10] = [
        None,
        Some(b"unknown.example"),
        Some(b"localhost.evil"),
        Some(b"127.0.0.1"),
        Some(b"::1"),
        Some(b"local\0host"),
        Some(b"localhost\0"),
        Some(b""),
        Some(b"a b"),
        Some(&long),
    ];
    let (strict, _folder) = proxy(false, "").await;
    for (n, sni) in strange.into_iter().enumerate() {
        let hello = Hello { sni, ..Hello::default() };
        let reply = reply(&strict, &hello.record()).await;
        assert!(matches!(reply, Reply::Alert(_)), "{sni:?} got {reply:?}");
        assert_eq!(strict.nth_end_record(n + 1).await["end"], "tls_failed");
    }
    for sni in [&b"localhost"[..], b"LOCALHOST", b"LocalHost"] {
        let hello = Hello { sni: Some(sni), ..Hello::default() };
        assert_eq!(reply(&strict, &hello.record()).await, Reply::ServerHello, "{sni:?}");
    }
    let (lenient, _folder) = proxy(true, "").await;
    for sni in [None, Some(&b"unknown.example"[..])] {
        let hello = Hello { sni, ..Hello::default() };
        assert_eq!(reply(&lenient, &hello.record()).await, Reply::ServerHello, "{sni:?}");
    }
}

// Requirements: TL01, TL03, TL23, TL24, TL26.
#[tokio::test]
async fn rejects_bytes_that_are_not_a_hello() {
    let (proxy, _folder) = proxy(true, "").await;
    let mut endless = vec![1, 0xff, 0xff, 0xff];
    endless.resize(70_000, 0);
    let endless: Vec<u8> = endless.chunks(16_000).flat_map(|part| record(22, part)).collect();
    let close_notify = record(21, &[1, 0]);
    for (n, sent) in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\xff".repeat(100_000),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(),
        b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10".to_vec(),
        record(23, b"data before a handshake"),
        record(20, &[1]),
        record(22, &[2, 0, 0, 0]),
        endless,
        record(22, &[]).repeat(50_000),
        record(21, &[1, 90]).repeat(50_000),
        close_notify,
        [Hello::default().record(), record(23, b"in the clear")].concat(),
        [Hello::default().record(), Hello::default().record()].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = connect(&proxy).await;
        let _ = stream.write_all(&sent).await;
        let _ = stream.shutdown().await;
        let response = read_to_end(&mut stream).await;
        assert!(!response.starts_with(b"HTTP"), "{n}: {response:?}");
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!(record["stage"], "tls", "{n}: {record}");
    }
    assert_eq!(proxy.outcomes()[0]["end"], "tls_failed");
}

// Requirements: TL03.
#[tokio::test]
async fn accepts_a_hello_of_12_kilobytes() {
    let (proxy, _folder) = proxy(true, "").await;
    let large = Hello { padding: 12_000, ..Hello::default() }.message();
    let large: Vec<u8> = large.chunks(5_000).flat_map(|part| record(22, part)).collect();
    assert_eq!(reply(&proxy, &large).await, Reply::ServerHello);
}

// Requirements: TC01, TC06, TL04.
#[tokio::test]
async fn deadline_covers_the_whole_tls_handshake() {
    let (proxy, _folder) = proxy(true, "[timeouts]\ntls = \"300ms\"").await;
    let hello = Hello::default().record();
    let began = tokio::time::Instant::now();
    let silent = async { read_to_end(&mut connect(&proxy).await).await };
    let half = async {
        let mut stream = connect(&proxy).await;
        stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
        read_to_end(&mut stream).await
    };
    let drip = async {
        let (mut reading, mut writing) = connect(&proxy).await.into_split();
        let dripping = async {
            for byte in &hello {
                let _ = writing.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = dripping => panic!("the whole hello was accepted"),
            end = read_to_end(&mut reading) => end,
        }
    };
    let ends = tokio::join!(silent, half, drip);
    assert_eq!(ends, (vec![], vec![], vec![]));
    assert!(began.elapsed() >= Duration::from_millis(300));
    for n in 1..=3 {
        let record = proxy.nth_end_record(n).await;
        assert_eq!(record["end"], "tls_timeout");
        assert_eq!((&record["key"], &record["value"]), (&"timeouts.tls".into(), &"300ms".into()));
        assert!(record["age_ms"].as_u64().unwrap() >= 300, "{record}");
    }
}

// Requirements: TC03, TC04, TC05.
#[tokio::test]
async fn early_disconnects_are_recorded_as_client_disconnected() {
    let (proxy, _folder) = proxy(true, "").await;
    let hello = Hello::default().record();
    for (n, (sent, reset)) in
        [(&[][..], false), (&[], true), (&hello[..50], false), (&hello[..50], true), (&hello, true)]
            .into_iter()
            .enumerate()
    {
        let mut stream = connect(&proxy).await;
        stream.write_all(sent).await.unwrap();
        if reset {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        let record = proxy.nth_end_record(n + 1).await;
        assert_eq!(
            (&record["stage"], &record["end"]),
            (&"tls".into(), &"client_disconnected".into()),
            "{record}"
        );
    }
}

// Requirements: H26.
#[tokio::test]
async fn plain_port_rejects_a_tls_hello() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let mut stream = Client::new(&proxy).await.connect_plain().await;
    stream.write_all(&Hello::default().record()).await.unwrap();
    let response = read_to_end(&mut stream).await;
    assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 400"), "{response:?}");
    drop(stream);
    proxy.end_record("head_invalid").await;
}

/// More clients than there are turns for all workers of a test.
const SLOW_CLIENTS: usize = 300;

#[tokio::test]
async fn slow_clients_do_not_keep_others_waiting() {
    let (proxy, _folder) = proxy(true, "[concurrency]\nconnections_per_client = 1000").await;
    let hello = Hello::default().record();
    let mut slow = Vec::new();
    for _ in 0..SLOW_CLIENTS {
        let mut stream = connect(&proxy).await;
        stream.write_all(&hello[..hello.len() / 2]).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(reply(&proxy, &hello).await, Reply::ServerHello);
    }
    // They have not lost their place either.
    for mut stream in slow {
        stream.write_all(&hello[hello.len() / 2..]).await.unwrap();
        assert_eq!(first_record(&mut stream).await, Reply::ServerHello);
    }
}
