//! `tidegate check`, and the ways in which `run` fails to start: exit codes and error messages.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::{Proxy, TIDEGATE, TempDir, route, write_certificate};

/// A complete configuration on ports chosen by the kernel, followed by `rest`.
pub fn config(rest: &str) -> String {
    format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n\n\
         [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\n\
         [[route]]\nhost = \"localhost\"\norigins = [\"same-origin\"]\nbackends = [\"127.0.0.1:9\"]\n\
         {rest}"
    )
}

/// A folder with a certificate, its key and this configuration.
pub fn config_folder(config: impl AsRef<[u8]>) -> TempDir {
    let folder = TempDir::new();
    write_certificate(folder.path(), &["localhost"]);
    folder.write("proxy.toml", config);
    folder
}

/// Runs the program with these arguments in that folder.
pub fn run(folder: &TempDir, words: &[&str]) -> Output {
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

/// The errors that `check` reports; `run` must report the same.
pub fn check_errors(folder: &TempDir) -> String {
    let checked = run(folder, &["check", "--config", "proxy.toml"]);
    let stderr = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{stderr}");
    assert_eq!(checked.stdout, b"");
    let run = run(folder, &["run", "--config", "proxy.toml"]);
    assert_eq!(run.status.code(), Some(78));
    assert_eq!(String::from_utf8(run.stderr).unwrap(), stderr);
    stderr
}

// Requirements: CF18.
#[test]
fn valid_file_passes_without_binding() {
    // The port is in use, so binding it would fail.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = config_folder(config("").replace("127.0.0.1:0", &address.to_string()));
    let output = run(&folder, &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let reported = String::from_utf8(output.stdout).unwrap();
    assert_eq!(reported, "proxy.toml: valid: 1 listener(s), 1 route(s)\n");
    // Paths are relative to the file, not to the working directory.
    let elsewhere = TempDir::new();
    let path = folder.path().join("proxy.toml");
    let output = run(&elsewhere, &["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
}

// Requirements: CF02.
#[test]
fn byte_order_mark_and_crlf_are_accepted() {
    let text = format!("\u{feff}{}", config("").replace('\n', "\r\n"));
    let output = run(&config_folder(text), &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

// Requirements: CF04.
#[test]
fn misspelt_key_gets_a_suggestion() {
    let reported = check_errors(&config_folder(config("[limits]\nidel = \"1h\"\n")));
    assert!(reported.starts_with("proxy.toml:13:1: limits.idel: "), "{reported}");
    let mut lines = reported.lines().skip(1);
    assert_eq!(lines.next(), Some(" 13 | idel = \"1h\""));
    assert_eq!(lines.next(), Some("    | ^^^^"));
    assert!(lines.next().unwrap().contains("idle"), "{reported}");
    assert!(reported.trim_end().ends_with("proxy.toml: 1 error"), "{reported}");
}

// Requirements: CF05, CF06, CF11, CF12, CF14.
#[test]
fn all_errors_are_reported_together() {
    let reported = check_errors(&config_folder(
        config(
            "[limits]\nidle = \"20s\"\nmessage_from_client = 1000\n[timeouts]\nrequest_header = \"10\"\n\
             connect = \"0s\"\n[concurrency]\nconnections = 10\nconnections_per_client = 20\n\
             [rates]\nhandshakes_per_client = \"20/m\"\n[admin]\naddress = \"0.0.0.0:9180\"\n",
        )
        .replace("127.0.0.1:9\"", "http://127.0.0.1:9/x\"")
        .replace("\"same-origin\"", "\"https://*\""),
    ));
    for key in [
        "route[0].origins[0]",
        "route[0].backends[0]",
        "limits.idle",
        "limits.message_from_client",
        "timeouts.request_header",
        "timeouts.connect",
        "concurrency.connections_per_client",
        "rates.handshakes_per_client",
        "admin.address",
    ] {
        assert!(reported.contains(&format!(": {key}: ")), "{key} is not in {reported}");
    }
    assert!(reported.trim_end().ends_with("proxy.toml: 9 errors"), "{reported}");
    assert!(reported.matches('^').count() > 9, "{reported}");
}

#[test]
fn short_and_long_policies_are_valid() {
    let folder = config_folder(
        config(
            "compression = \"pass\"\nstrict = \"report\"\nproxy_protocol = true\nforwarded = true\n\
             [route.request_headers]\nremove = [\"X-Debug\"]\nset = [\"X-Env: prod\"]\n\
             [route.limits]\nmessages_from_client = { rate = \"50/s\", burst = 10, action = \"close\" }\n\
             [limits]\nmessage_from_client = { max = \"1MiB\", action = \"report\" }\n\
             bytes_from_backend = \"1MiB/s\"\nfragments_from_backend = \"off\"\nlifetime = \"24h\"\n\
             [heartbeat]\nbackend_interval = \"20s\"\n\
             [trusted_proxies]\naddresses = [\"10.0.0.0/8\", \"::1\"]\nheader = \"forwarded\"\n\
             [access]\nto = \"access.log\"\nstart = true\n",
        )
        .replace("127.0.0.1:0\"", "127.0.0.1:0\"\nproxy_protocol = true"),
    );
    let output = run(&folder, &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // `check` changes nothing.
    assert!(!folder.path().join("access.log").exists());
}

// Requirements: CF05, CF12, CF13.
#[test]
fn ineffective_limits_are_reported_with_position() {
    let reported = check_errors(&config_folder(
        config(
            "[route.response_headers]\nset = [\"Connection: close\"]\n\
             [limits]\nmessage_from_client = { max = \"1MiB\", action = \"delay\" }\n\
             messages_from_client = { rate = \"50/s\", burst = 0 }\n\
             message_from_backend = \"1MiB\"\nframe_from_backend = \"2MiB\"\nlifetime = \"20s\"\n\
             [heartbeat]\nbackend_timeout = \"5s\"\n\
             [trusted_proxies]\naddresses = [\"0.0.0.0/0\", \"10.0.0.1/8\"]\n\
             [access]\nto = \"key.pem\"\n",
        ) + "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = 1\n",
    ));
    for key in [
        "route[0].response_headers.set[0]",
        "limits.message_from_client.action",
        "limits.messages_from_client.burst",
        "limits.frame_from_backend",
        "limits.lifetime",
        "heartbeat.backend_timeout",
        "trusted_proxies.addresses[0]",
        "trusted_proxies.addresses[1]",
        "access.to",
        "listener[1].proxy_protocol",
    ] {
        assert!(reported.contains(&format!(": {key}: ")), "{key} is not in {reported}");
    }
    assert!(reported.trim_end().ends_with("proxy.toml: 10 errors"), "{reported}");
    assert!(
        reported.contains(&format!("\n    | {}^^^^^^^\n    help: ", " ".repeat(47))),
        "{reported}"
    );
}

// Requirements: CF03, CF07, CF02.
#[test]
fn toml_errors_have_line_and_column() {
    for (text, place) in [
        (config("[limits\n"), "proxy.toml:12:"),
        (config("[limits]\nidle = \n"), "proxy.toml:13:"),
        (config("[limits]\nidle = \"1h\"\nidle = \"2h\"\n"), "proxy.toml:14:"),
        (config("[limits]\n[limits]\n"), "proxy.toml:13:"),
        (config("[limits]\nidle = \"1h\0\"\n"), "proxy.toml:13:"),
        (config(&format!("x = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000))), "proxy.toml:12:"),
    ] {
        let reported = check_errors(&config_folder(text));
        assert!(reported.starts_with(place), "{place} is not in {reported:.500}");
    }
    let mut latin = config("").into_bytes();
    latin.extend(b"# Zo\xeb\n");
    let reported = check_errors(&config_folder(latin));
    assert!(reported.contains("UTF-8") && reported.contains("12"), "{reported}");
}

// Requirements: CF01.
#[test]
fn unreadable_files_are_named() {
    let folder = config_folder(config(""));
    fs::remove_file(folder.path().join("proxy.toml")).unwrap();
    assert!(check_errors(&folder).contains("proxy.toml: "));
    fs::create_dir(folder.path().join("proxy.toml")).unwrap();
    assert!(check_errors(&folder).starts_with("proxy.toml: "));
    fs::remove_dir(folder.path().join("proxy.toml")).unwrap();
    // Opening a FIFO would block.
    let made = Command::new("mkfifo").arg(folder.path().join("proxy.toml")).status().unwrap();
    assert!(made.success());
    assert!(check_errors(&folder).starts_with("proxy.toml: "));
    fs::remove_file(folder.path().join("proxy.toml")).unwrap();
    folder.write("proxy.toml", "#".repeat(5 << 20));
    assert!(check_errors(&folder).contains("4 MiB"));
    folder.write("proxy.toml", "");
    assert!(check_errors(&folder).contains("listener"));
}

// Requirements: CK01, CK04.
#[test]
fn unusable_certificates_are_named() {
    let other = config_folder("");
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
        let folder = config_folder(config(""));
        folder.write(file, text);
        let reported = check_errors(&folder);
        assert!(reported.contains(word), "{word:?} is not in {reported}");
        assert!(reported.contains("certificate[0]") && reported.contains(file), "{reported}");
        assert!(!reported.contains(secret), "key material in {reported}");
    }
    let folder = config_folder(config("").replace("chain.pem", "nowhere/chain.pem"));
    let reported = check_errors(&folder);
    assert!(
        reported.contains("nowhere/chain.pem") && reported.contains("No such file"),
        "{reported}"
    );
}

#[test]
fn unusable_access_log_path_is_reported() {
    let written = "access records would be appended to it: name another file";
    for (to, problem) in [
        (
            "nowhere/access.log",
            "there is no directory nowhere: create it, or let systemd create it \
             (LogsDirectory= in the unit)",
        ),
        ("chain.pem/access.log", "chain.pem/access.log cannot be checked: Not a directory"),
        ("folder", "folder is a directory: name the file in it"),
        ("pipe", "pipe is a pipe, socket or device: name a file, or write \"stderr\""),
        ("/dev/full", "/dev/full is a pipe, socket or device"),
        ("/dev/null", "/dev/null is a pipe, socket or device"),
        ("/proc/self/oom_score_adj", "/proc/self/oom_score_adj is a kernel file"),
        ("/proc/access.log", "/proc/access.log is a kernel file"),
        ("proxy.toml", &format!("proxy.toml is already used as the configuration file; {written}")),
        (
            "link-proxy.toml",
            &format!("link-proxy.toml is already used as the configuration file; {written}"),
        ),
        (
            "hard-proxy.toml",
            &format!("hard-proxy.toml is already used as the configuration file; {written}"),
        ),
        ("link-key.pem", &format!("link-key.pem is already used as certificate[0].key; {written}")),
        (
            "hard-chain.pem",
            &format!("hard-chain.pem is already used as certificate[0].chain; {written}"),
        ),
    ] {
        let folder = config_folder(config(&format!("[access]\nto = \"{to}\"\n")));
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        for name in ["proxy.toml", "chain.pem", "key.pem"] {
            symlink(name, path(&format!("link-{name}"))).unwrap();
            fs::hard_link(path(name), path(&format!("hard-{name}"))).unwrap();
        }
        // No process reads it: opening it would block forever.
        let made = Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        let reported = check_errors(&folder);
        let heading = format!("proxy.toml:13:6: access.to: {problem}");
        assert!(reported.starts_with(&heading), "{heading} is not {reported}");
        assert!(reported.contains(&format!(" 13 | to = \"{to}\"\n    |      ^")), "{reported}");
    }
    for to in ["access.log", "folder/access.log"] {
        let folder = config_folder(config(&format!("[access]\nto = \"{to}\"\n")));
        fs::create_dir(folder.path().join("folder")).unwrap();
        let output = run(&folder, &["check", "--config", "proxy.toml"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[tokio::test]
async fn port_in_use_is_reported_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for text in [
        config("").replace("127.0.0.1:0", &address),
        config(&format!("[admin]\naddress = \"{address}\"\n")),
        config("[admin]\nenabled = false\n").replace("127.0.0.1:0", "203.0.113.1:1"),
    ] {
        let output = run(&config_folder(&text), &["run", "--config", "proxy.toml"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> =
            stderr.lines().filter(|line| line.starts_with("tidegate: cannot listen on ")).collect();
        assert_eq!(lines.len(), 1, "{stderr}");
        let words = ["another process", "no interface of this machine"];
        assert!(words.iter().any(|word| lines[0].contains(word)), "{stderr}");
        assert!(!stderr.contains("serving"), "{stderr}");
    }
}

// Requirements: CF15.
#[tokio::test]
async fn limit_above_descriptors_is_reported_with_numbers() {
    let text = config("[concurrency]\nconnections = 500\n[admin]\nenabled = false\n");
    let mut proxy = Proxy::spawn_with_descriptors(200, &text);
    assert_eq!(proxy.exit().await, Some(78));
    let reported = proxy.record("the fault", |line| line.as_str().is_some()).await;
    let reported = reported.as_str().unwrap();
    for word in [
        "proxy.toml:13:15: concurrency.connections: 500",
        "limit here is 200",
        "LimitNOFILE",
        "at most 61",
    ] {
        assert!(reported.contains(word), "{word} is not in {reported}");
    }
    // The file itself is valid; another machine may be able to use it.
    let output = run(&config_folder(text), &["check", "--config", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn stop_during_start_exits_cleanly() {
    let mut proxy = Proxy::start(&route(&["127.0.0.1:9".parse().unwrap()], "")).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
}

#[test]
fn version_and_help_are_printed() {
    let folder = TempDir::new();
    let version = run(&folder, &["--version"]);
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(version.status.code(), Some(0), "{text}");
    assert!(text.starts_with(&format!("tidegate {} (", env!("CARGO_PKG_VERSION"))), "{text}");
    // With the versions that were compiled in, and one line for bug reports.
    assert!(text.contains(", rustls 0.") && text.contains(", aws-lc-rs 1."), "{text}");
    assert!(text.contains("commit ") || text.contains("(development build, "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for words in [&["--help"][..], &["run", "--help"], &["check", "--help"], &["help", "demo"]] {
        let help = run(&folder, words);
        assert_eq!(help.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("Usage: tidegate"), "{text}");
        let has_file = matches!(words[0], "run" | "check");
        assert_eq!(text.contains("[default: /etc/tidegate/proxy.toml]"), has_file, "{text}");
    }
    let help = String::from_utf8(run(&folder, &["--help"]).stdout).unwrap();
    for command in ["run", "check", "demo"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
    }
    for (words, word) in [
        (&["chek", "--config", "x"][..], "check"),
        (&["run", "--config"], "--config"),
        (&["run", "--conf", "x"], "--config"),
        (&[], "Usage: tidegate"),
    ] {
        let output = run(&folder, words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(word), "{word} is not in {stderr}");
    }
}
