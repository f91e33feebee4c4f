//! The access log in its own file: every record is written once and in one piece, through
//! rotations, full disks and files that cannot be opened.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Signal};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::support::{
    BASE, Backend, Client, HANDSHAKE, MockBackend, PlainStream, Proxy, Record, TempDir, TestBed,
    assert_relays, close_normally, logfmt, read_response, reset, route, upgrade, within_timeout,
};

/// Records go to `access.log` as JSON; further keys may follow.
const ACCESS: &str = "[access]\nto = \"access.log\"\n";

#[tokio::test]
async fn records_only_go_to_the_file() {
    let bed = TestBed::with(&format!("{ACCESS}start = true\n")).await;
    let (mut client, mut backend) = bed.open_secure().await;
    let log = Log::of(&bed.proxy);
    let begun = log.nth(1).await;
    assert_eq!((&begun["event"], &begun["session"]), (&"started".into(), &1.into()));
    assert_relays(&mut client, &mut backend).await;
    close_normally(client, backend).await;
    let ended = log.nth(2).await;
    assert_eq!((&ended["event"], &ended["end"]), (&"ended".into(), &"client_closed".into()));
    // The end record repeats every field of the start record.
    for (key, value) in begun.as_object().unwrap() {
        assert!(
            ["time", "event"].contains(&key.as_str()) || ended[key] == *value,
            "{key}: {ended}"
        );
    }
    assert_eq!(bed.client.request(b"not a request\r\n\r\n").await.status, 400);
    assert_eq!(log.nth(3).await["event"], "dropped");
    let mode = fs::metadata(&log.0).unwrap().permissions().mode();
    // The umask of the test may remove further bits.
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    assert_ne!(mode & 0o600, 0, "{mode:o}");
    bed.proxy.reload().await;
    let record = bed.proxy.records();
    assert!(record.iter().all(|line| line.get("event").is_none()), "{record:#?}");
    assert!(log.text().lines().all(|line| line.starts_with("{\"time\":\"2")), "{}", log.text());
}

#[tokio::test]
async fn rotation_loses_and_tears_no_record() {
    let backend = Backend::echo().await;
    let caps = "[rates]\nhandshakes_per_client = \"9999/s\"\nhandshakes_burst = 99999\n";
    let proxy = Proxy::start(&[&route(&[backend.address], ""), ACCESS, caps].concat()).await;
    let log = Log::of(&proxy);
    let over = Arc::new(AtomicBool::new(false));
    let client = Client::new(&proxy).await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (client, over) = (client.clone(), over.clone());
        clients.spawn(async move {
            let mut opened = 0;
            while !over.load(Ordering::Relaxed) {
                reset(upgrade(client.connect_plain().await).await);
                opened += 1;
            }
            opened
        });
    }
    let mut rotated = Vec::new();
    for number in 0..12 {
        log.grows().await;
        let to = log.0.with_extension(number.to_string());
        fs::rename(&log.0, &to).unwrap();
        let record = proxy.reload().await;
        assert!(record["message"].as_str().unwrap().starts_with("reloaded"), "{record}");
        // After the reload the old file may be compressed: nothing writes to it any more.
        rotated.push((to.clone(), fs::read(to).unwrap()));
    }
    over.store(true, Ordering::Relaxed);
    let tunnels = clients.join_all().await.into_iter().sum::<u64>();
    let mut records = Vec::new();
    for (path, at_reload) in rotated {
        assert_eq!(fs::read(&path).unwrap(), at_reload, "{} grew", path.display());
        records.extend(Log(path).records());
    }
    log.until(|last| records.len() + last.len() >= tunnels as usize).await;
    records.extend(log.records());
    let mut sessions: Vec<u64> =
        records.iter().map(|record| record["session"].as_u64().unwrap()).collect();
    sessions.sort();
    assert_eq!(sessions, (1..=tunnels).collect::<Vec<u64>>());
}

#[tokio::test]
async fn failed_reload_still_reopens_the_file() {
    let bed = TestBed::with(ACCESS).await;
    let log = Log::of(&bed.proxy);
    fs::rename(&log.0, log.0.with_extension("1")).unwrap();
    bed.proxy.rewrite("[[listener");
    let record = bed.proxy.reload().await;
    assert!(record["message"].as_str().unwrap().starts_with("reload rejected;"), "{record}");
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    assert_eq!(log.nth(1).await["end"], "client_closed");
}

#[tokio::test]
async fn reload_changes_file_format_and_start_records() {
    let bed = TestBed::with("#access\n").await;
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    bed.tunnel_end(1).await;
    let to_file = format!("{ACCESS}format = \"text\"\n");
    let record = bed.proxy.reload_with("#access\n", &to_file).await;
    assert_eq!(record["changed"], "access: to, format", "{record}");
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    let log = Log::of(&bed.proxy);
    log.until_text(|text| text.ends_with('\n')).await;
    let fields = logfmt(log.text().trim_end()).unwrap();
    let field = |key: &str| fields.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    assert_eq!((field("event"), field("session")), (Some("ended"), Some("2")));
    // The same file, in the other format.
    bed.proxy.reload_with("format = \"text\"\n", "format = \"json\"\nstart = true\n").await;
    let (client, backend) = bed.open().await;
    log.until_text(|text| text.lines().count() == 2).await;
    let begun: Record = serde_json::from_str(log.text().lines().nth(1).unwrap()).unwrap();
    assert_eq!((&begun["event"], &begun["session"]), (&"started".into(), &3.into()));
    // Back to records on stderr.
    let config = bed.proxy.config();
    bed.proxy.rewrite(config.split("[access]").next().unwrap());
    bed.proxy.reload().await;
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(3).await["end"], "client_closed");
    assert_eq!(log.text().lines().count(), 2);
    assert!(!bed.proxy.records().iter().any(|record| record["session"] == 2));
}

#[tokio::test]
async fn unopenable_file_fails_start_and_reload() {
    let mock = MockBackend::new().await;
    let folder = TempDir::new();
    // Only opening the file shows that this link is broken.
    let link = folder.path().join("link");
    symlink("none/access.log", &link).unwrap();
    let bad = ACCESS.replace("access.log", link.to_str().unwrap());
    let mut proxy = Proxy::spawn(&plain(&[&route(&[mock.address()], ""), &bad]), &[]);
    assert_eq!(proxy.exit().await, Some(1));
    let record = proxy.record("the fault", |line| line.as_str().is_some()).await;
    let record = record.as_str().unwrap();
    for part in
        ["tidegate: cannot open the access log", "/link", "No such file", "create the directory"]
    {
        assert!(record.contains(part), "{part} is not in {record}");
    }

    let bed = TestBed::with(ACCESS).await;
    let log = Log::of(&bed.proxy);
    let good = bed.proxy.config();
    fs::create_dir(bed.proxy.folder().join("folder")).unwrap();
    let pipe = Command::new("mkfifo").arg(bed.proxy.folder().join("pipe")).status();
    assert!(pipe.unwrap().success());
    for (to, words) in [
        (link.to_str().unwrap(), "No such file"),
        ("folder", "name the file in it"),
        ("key.pem", "key.pem is already used as certificate[0].key"),
        ("proxy.toml", "proxy.toml is already used as the configuration file"),
        // Opening a pipe without a reader would block.
        ("pipe", "is a pipe"),
    ] {
        let record = bed.proxy.reload_with("access.log", to).await;
        assert_eq!(record["generation"], 1, "{record}");
        let fault = |r: &Record| r["error"].as_str().is_some_and(|fault| fault.contains(words));
        bed.proxy.record("the fault", fault).await;
        bed.proxy.rewrite(&good);
    }
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    assert_eq!(log.nth(1).await["generation"], 1);
}

#[tokio::test]
async fn symlink_to_the_key_is_not_followed() {
    let bed = TestBed::with(ACCESS).await;
    let log = Log::of(&bed.proxy);
    let key = bed.proxy.folder().join("key.pem");
    let before = fs::read(&key).unwrap();
    fs::remove_file(&log.0).unwrap();
    symlink("key.pem", &log.0).unwrap();
    let good = bed.proxy.config();
    // The file is reopened even if the configuration is invalid.
    for config in [good.clone(), format!("{good}[[listener")] {
        bed.proxy.rewrite(&config);
        let record = bed.proxy.reload().await;
        assert_eq!(record["generation"], 1, "{record}");
        let refused = |r: &Record| {
            let fault = r["error"].as_str().unwrap_or_default();
            fault.contains(
                "access.to: access.log is already used as certificate[0].key; access records",
            )
        };
        bed.proxy.nth_record("the fault", if config == good { 1 } else { 2 }, refused).await;
    }
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    bed.proxy.wait_until_idle().await;
    assert_eq!(fs::read(&key).unwrap(), before);
}

// Requirements: RE13.
#[tokio::test]
async fn full_disk_only_loses_records() {
    // An ignored signal stays ignored across exec. The limit allows no byte at all.
    let mock = MockBackend::new().await;
    let config = [BASE, &route(&[mock.address()], ACCESS)].concat();
    let mut proxy = Proxy::spawn_under("trap '' XFSZ && ulimit -S -f 0", &config);
    proxy.ready().await;
    let mut bed = TestBed { client: Client::new(&proxy).await, proxy, backend: mock };
    let (mut client, mut backend) = bed.open_secure().await;
    for _ in 0..5 {
        let (client, backend) = bed.open().await;
        close_normally(client, backend).await;
    }
    assert_relays(&mut client, &mut backend).await;
    let lost = |line: &Record| line["lost"].is_u64();
    let record = bed.proxy.record("a loss", lost).await;
    assert_eq!((&record["path"], &record["level"]), (&"access.log".into(), &"ERROR".into()));
    assert!(record["error"].as_str().unwrap().contains("File too large"), "{record}");
    close_normally(client, backend).await;
    bed.proxy.wait_until_idle().await;
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
    // Losses are reported once at first, then summed up until the process ends.
    let record = bed.proxy.nth_record("the remaining losses", 2, lost).await;
    let record = record["lost"].as_u64().unwrap();
    let all: Vec<_> = bed.proxy.records().into_iter().filter(lost).collect();
    assert_eq!((all.len(), all[0]["lost"].as_u64().unwrap() + record), (2, 6), "{all:#?}");
}

#[tokio::test]
async fn failed_write_leaves_no_partial_line() {
    let mock = MockBackend::new().await;
    let config = plain(&[&route(&[mock.address()], ""), ACCESS]);
    // An ignored signal stays ignored across exec. The limit is four blocks of 512 bytes.
    let mut proxy = Proxy::spawn_under("trap '' XFSZ && ulimit -S -f 4", &config);
    proxy.ready().await;
    let log = Log::of(&proxy);
    let open = async || {
        let address = proxy.address("plain").await;
        let client = upgrade(tokio::net::TcpStream::connect(address).await.unwrap()).await;
        close_normally(client, mock.accept().await).await;
    };
    for _ in 0..8 {
        open().await;
    }
    proxy.record("a loss", |line| line["lost"].is_u64()).await;
    proxy.limit(Resource::Fsize, None);
    open().await;
    // `until` parses every line.
    log.until(|records| records.iter().any(|record| record["session"] == 9)).await;
    assert!((2..9).contains(&log.records().len()), "{}", log.text());
}

#[tokio::test]
async fn hostile_user_agent_cannot_forge_fields() {
    for format in ["json", "text"] {
        let bed = TestBed::with(&format!("{ACCESS}format = \"{format}\"\nstart = true\n")).await;
        let log = Log::of(&bed.proxy);
        for hostile in HOSTILE {
            let mut request = HANDSHAKE.replace("Upgrade: w", "User-Agent: {}\r\nUpgrade: w");
            request = request.replace("/ws", "/ws?q=%22%0a'=;x");
            let (before, after) = request.split_once("{}").unwrap();
            let request = [before.as_bytes(), hostile, after.as_bytes()].concat();
            let mut client = PlainStream::new(bed.client.connect_plain().await);
            client.write_all(&request).await.unwrap();
            let response = read_response(&mut client).await;
            assert_eq!(response.status, 101, "{}", String::from_utf8_lossy(&request));
            close_normally(client, bed.backend.accept().await).await;
        }
        log.until_text(|text| text.lines().count() == 2 * HOSTILE.len()).await;
        let text = log.text();
        assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{text:?}");
        for line in text.lines() {
            let fields = fields(format, line);
            let of = |key: &str| {
                let mut found = fields.iter().filter(|(found, _)| found == key);
                let (_, value) = found.next().unwrap_or_else(|| panic!("{key} in {line}"));
                assert!(found.next().is_none(), "{key} twice in {line}");
                value.as_str()
            };
            assert!(["started", "ended"].contains(&of("event")), "{line}");
            let session: usize = of("session").parse().unwrap();
            let (sent, agent) = (HOSTILE[session - 1], of("user_agent"));
            assert!(agent.len() <= 256 + 12, "{agent}");
            // Quotation marks and backslashes take two bytes each.
            let clear = sent.iter().take(120).take_while(|byte| (0x20..0x7f).contains(*byte));
            let clear: String = clear.map(|byte| char::from(*byte)).collect();
            assert!(agent.starts_with(&clear), "{agent} is not {clear}...");
        }
    }
}

/// The keys and values of a record in either format.
fn fields(format: &str, line: &str) -> Vec<(String, String)> {
    if format == "text" {
        return logfmt(line).unwrap_or_else(|| panic!("{line}"));
    }
    let record: Record = serde_json::from_str(line).unwrap();
    let field = |(key, value): (&String, &Record)| {
        (key.clone(), value.as_str().map_or(value.to_string(), str::to_owned))
    };
    record.as_object().unwrap().iter().map(field).collect()
}

/// User agents that are valid HTTP: quotes, 8-bit control characters, invalid UTF-8, text that
/// resembles another field or line, and excessive length.
const HOSTILE: [&[u8]; 7] = [
    b"\"quoted\" \\ and \\\" slashed",
    b"x\" event=\"ended\" end=none {\"a\":1}",
    b"a\xc2\x9b31m\xc2\x85b\xe2\x80\xae",
    b"not \xff\xfe utf-8 \xc3",
    b"tab\there",
    b"a=b, c=d; e",
    &[b'"'; 3000],
];

/// A plain listener and JSON log records, followed by these tables.
fn plain(tables: &[&str]) -> String {
    let base = "[log]\nformat = \"json\"\n[admin]\nenabled = false\n\
                [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n";
    [&[base][..], tables].concat().concat()
}

/// An access log file.
struct Log(PathBuf);

impl Log {
    fn of(proxy: &Proxy) -> Self {
        Self(Path::new(proxy.folder()).join("access.log"))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Parses every line; panics unless each is a complete JSON object.
    fn records(&self) -> Vec<Record> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let record = |line: &str| {
            let record: Record = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert!(record.is_object(), "{line}");
            record
        };
        text.lines().map(record).collect()
    }

    async fn nth(&self, n: usize) -> Record {
        self.until_text(|text| text.lines().count() >= n).await;
        self.records().swap_remove(n - 1)
    }

    async fn grows(&self) {
        let before = self.text().len();
        self.until_text(|text| text.len() > before).await;
    }

    async fn until(&self, fits: impl Fn(&[Record]) -> bool) {
        self.until_text(|text| text.ends_with('\n') && fits(&self.records())).await;
    }

    /// Nothing signals a change of the file, so this polls.
    async fn until_text(&self, fits: impl Fn(&str) -> bool) {
        within_timeout("the file of records", async {
            while !fits(&self.text()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
