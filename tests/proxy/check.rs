//! `tidegate check`, and the ways in which `run` does not begin: exit codes, and words that an
//! operator can use.

use std::fs;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::{Folder, Proxy, TIDEGATE, route, write_certificate};

/// A whole configuration on ports that the kernel chooses; `rest` goes below.
fn config(rest: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\n\
         [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\n\
         [[route]]\nhost = \"localhost\"\norigins = [\"same-origin\"]\nbackends = [\"127.0.0.1:9\"]\n\
         {rest}"
    )
}

/// A folder with a certificate, its key, and this configuration.
fn house(config: impl AsRef<[u8]>) -> Folder {
    let folder = Folder::new();
    write_certificate(folder.path(), &["localhost"]);
    folder.write("proxy.toml", config);
    folder
}

/// What the program says to these words, in that folder.
fn say(folder: &Folder, words: &[&str]) -> Output {
    let output = Command::new("timeout")
        .args(["20", TIDEGATE])
        .args(words)
        .current_dir(folder.path())
        .output()
        .unwrap();
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(stream);
        for word in ["panicked", "backtrace", "RUST_BACKTRACE", "src/", "Err(", "\x1b["] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    output
}

/// The faults that `check` finds; `run` must find the same.
fn faults(folder: &Folder) -> String {
    let checked = say(folder, &["check", "--config", "proxy.toml"]);
    let stderr = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{stderr}");
    assert_eq!(checked.stdout, b"");
    let run = say(folder, &["run", "--config", "proxy.toml"]);
    assert_eq!(run.status.code(), Some(78));
    assert_eq!(String::from_utf8(run.stderr).unwrap(), stderr);
    stderr
}

#[test]
fn cf18_a_good_file_is_good_and_nothing_is_bound() {
    // Taken, so that binding it would fail.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = house(config("").replace("127.0.0.1:0", &address.to_string()));
    let output = say(&folder, &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "proxy.toml: good: 1 listener(s), 1 route(s)\n");
    // Paths are relative to the file, not to where one stands.
    let elsewhere = Folder::new();
    let path = folder.path().join("proxy.toml");
    let output = say(&elsewhere, &["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn cf02_a_byte_order_mark_and_carriage_returns_are_borne() {
    let text = format!("\u{feff}{}", config("").replace('\n', "\r\n"));
    let output = say(&house(text), &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn cf04_a_misspelt_key_is_shown_with_the_right_one() {
    let said = faults(&house(config("[limits]\nidel = \"1h\"\n")));
    assert!(said.starts_with("proxy.toml:13:1: limits.idel: "), "{said}");
    let mut lines = said.lines().skip(1);
    assert_eq!(lines.next(), Some(" 13 | idel = \"1h\""));
    assert_eq!(lines.next(), Some("    | ^^^^"));
    assert!(lines.next().unwrap().contains("idle"), "{said}");
    assert!(said.trim_end().ends_with("proxy.toml: 1 fault"), "{said}");
}

#[test]
fn cf05_cf06_cf11_cf12_cf14_every_fault_is_told_at_once() {
    let said = faults(&house(
        config(
            "[limits]\nidle = \"20s\"\nmessage_from_client = 1000\n[timeouts]\nhead = \"10\"\n\
             dial = \"0s\"\n[caps]\nconnections = 10\nconnections_per_client = 20\n\
             handshakes_per_client = \"20/m\"\n[admin]\naddress = \"0.0.0.0:9180\"\n",
        )
        .replace("127.0.0.1:9\"", "http://127.0.0.1:9/x\"")
        .replace("\"same-origin\"", "\"https://a.example/\""),
    ));
    for key in [
        "route[0].origins[0]",
        "route[0].backends[0]",
        "limits.idle",
        "limits.message_from_client",
        "timeouts.head",
        "timeouts.dial",
        "caps.connections_per_client",
        "caps.handshakes_per_client",
        "admin.address",
    ] {
        assert!(said.contains(&format!(": {key}: ")), "{key} is not in {said}");
    }
    assert!(said.trim_end().ends_with("proxy.toml: 9 faults"), "{said}");
    assert!(said.matches('^').count() > 9, "{said}");
}

#[test]
fn cf03_cf07_cf02_what_is_no_toml_has_its_line_and_column() {
    for (text, place) in [
        (config("[limits\n"), "proxy.toml:12:"),
        (config("[limits]\nidle = \n"), "proxy.toml:13:"),
        (config("[limits]\nidle = \"1h\"\nidle = \"2h\"\n"), "proxy.toml:14:"),
        (config("[limits]\n[limits]\n"), "proxy.toml:13:"),
        (config("[limits]\nidle = \"1h\0\"\n"), "proxy.toml:13:"),
        (config(&format!("x = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000))), "proxy.toml:12:"),
    ] {
        let said = faults(&house(text));
        assert!(said.starts_with(place), "{place} is not in {said:.500}");
    }
    let mut latin = config("").into_bytes();
    latin.extend(b"# Zo\xeb\n");
    let said = faults(&house(latin));
    assert!(said.contains("UTF-8") && said.contains("12"), "{said}");
}

#[test]
fn cf01_files_that_cannot_be_read_are_named() {
    let folder = house(config(""));
    fs::remove_file(folder.path().join("proxy.toml")).unwrap();
    assert!(faults(&folder).contains("proxy.toml: "));
    fs::create_dir(folder.path().join("proxy.toml")).unwrap();
    assert!(faults(&folder).starts_with("proxy.toml: "));
    fs::remove_dir(folder.path().join("proxy.toml")).unwrap();
    // A FIFO would be waited for.
    let made = Command::new("mkfifo").arg(folder.path().join("proxy.toml")).status().unwrap();
    assert!(made.success());
    assert!(faults(&folder).starts_with("proxy.toml: "));
    fs::remove_file(folder.path().join("proxy.toml")).unwrap();
    folder.write("proxy.toml", "#".repeat(5 << 20));
    assert!(faults(&folder).contains("4MiB"));
    folder.write("proxy.toml", "");
    assert!(faults(&folder).contains("listener"));
}

#[test]
fn ck01_ck04_certificates_that_cannot_be_used_are_named() {
    let other = house("");
    let read = |name: &str| fs::read_to_string(other.path().join(name)).unwrap();
    let (chain, key) = (read("chain.pem"), read("key.pem"));
    let secret = key.lines().nth(1).unwrap();
    let cut = &chain[..chain.len() / 2];
    for (file, text, word) in [
        ("key.pem", key.as_str(), "this is not the key of"),
        ("chain.pem", chain.as_str(), "this is not the key of"),
        ("chain.pem", "", "no certificate"),
        ("chain.pem", "# only words\n", "no certificate"),
        ("chain.pem", &key, "no certificate"),
        ("chain.pem", cut, "not PEM"),
        ("key.pem", "", "no private key"),
        ("key.pem", &chain, "no private key"),
        ("key.pem", &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        ("key.pem", &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"), "not PEM"),
    ] {
        let folder = house(config(""));
        folder.write(file, text);
        let said = faults(&folder);
        assert!(said.contains(word), "{word:?} is not in {said}");
        assert!(said.contains("certificate[0]") && said.contains(file), "{said}");
        assert!(!said.contains(secret), "key material in {said}");
    }
    let folder = house(config("").replace("chain.pem", "nowhere/chain.pem"));
    let said = faults(&folder);
    assert!(said.contains("nowhere/chain.pem") && said.contains("No such file"), "{said}");
}

#[tokio::test]
async fn a_taken_port_is_told_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for text in [
        config("").replace("127.0.0.1:0", &address),
        config(&format!("[admin]\naddress = \"{address}\"\n")),
        config("[admin]\nenabled = false\n").replace("127.0.0.1:0", "203.0.113.1:1"),
    ] {
        let output = say(&house(&text), &["run", "--config", "proxy.toml"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let told: Vec<&str> =
            stderr.lines().filter(|line| line.starts_with("tidegate: cannot listen on ")).collect();
        assert_eq!(told.len(), 1, "{stderr}");
        let words = ["another process", "no interface of this machine"];
        assert!(words.iter().any(|word| told[0].contains(word)), "{stderr}");
        assert!(!stderr.contains("serving"), "{stderr}");
    }
}

#[tokio::test]
async fn cf15_a_cap_that_the_descriptors_cannot_meet_is_told_with_figures() {
    let text = config("[caps]\nconnections = 500\n[admin]\nenabled = false\n");
    let mut proxy = Proxy::spawn_with_descriptors(200, &text);
    assert_eq!(proxy.exit().await, Some(78));
    let said = proxy.record("the fault", |line| line.as_str().is_some()).await;
    let said = said.as_str().unwrap();
    for word in [
        "proxy.toml:13:15: caps.connections: 500",
        "limit here is 200",
        "LimitNOFILE",
        "at most 67",
    ] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    // The file as such is good: another machine may meet it.
    let output = say(&house(text), &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn a_stop_right_after_the_start_is_a_clean_exit() {
    let mut proxy = Proxy::start(&route(&["127.0.0.1:9".parse().unwrap()], "")).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
}

#[test]
fn the_program_says_what_it_is_and_how_it_is_used() {
    let folder = Folder::new();
    let version = say(&folder, &["--version"]);
    let expected = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.status.code(), version.stdout), (Some(0), expected.into_bytes()));
    for words in [&["--help"][..], &["run", "--help"], &["check", "--help"], &["help", "demo"]] {
        let help = say(&folder, words);
        assert_eq!(help.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("Usage: tidegate"), "{text}");
    }
    let help = String::from_utf8(say(&folder, &["--help"]).stdout).unwrap();
    for command in ["run", "check", "demo"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
    }
    for (words, word) in [
        (&["chek", "--config", "x"][..], "check"),
        (&["run"], "--config"),
        (&["run", "--config"], "--config"),
        (&["run", "--conf", "x"], "--config"),
        (&[], "Usage: tidegate"),
    ] {
        let output = say(&folder, words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(word), "{word} is not in {stderr}");
    }
}
