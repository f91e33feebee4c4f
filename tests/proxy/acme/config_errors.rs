//! Faults in `[acme]`, each with its line and a caret.

use std::process::Command;

use super::{AcmeBed, logged};
use crate::support::{Proxy, TIDEGATE, TempDir};

/// What `tidegate check` prints about a configuration that must be invalid.
fn check(config: &str) -> String {
    checked(config, 78)
}

/// What `tidegate check` prints about a configuration with this exit code.
fn checked(config: &str, code: i32) -> String {
    let folder = TempDir::new();
    folder.write("proxy.toml", config);
    let output = Command::new("timeout")
        .args(["20", TIDEGATE, "check", "--config", "proxy.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{config}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn faults_are_shown_with_line_and_caret() {
    let bed = AcmeBed::new().await;
    let valid = bed.config("");
    let wildcard = "[[certificate]]\nacme = true\nnames = [\"*.a.example\"]\n";
    for (from, to, place, words) in [
        ("accept_terms = true", "accept_terms = false", "accept_terms", "terms"),
        ("accept_terms = true\n", "", "[acme]", "accept_terms"),
        ("accept_terms", "email = \"nonsense\"\naccept_terms", "nonsense", "e-mail address"),
        ("accept_terms", "directory = \"http://a.example\"\naccept_terms", "directory", "https"),
        ("accept_terms", "challenge = \"dns-02\"\naccept_terms", "dns-02", "tls-alpn-01"),
        ("accept_terms", "challenge = \"dns-01\"\naccept_terms", "dns-01", "dns_hook"),
        ("accept_terms", "challenge = \"http-01\"\naccept_terms", "http-01", "port 80"),
        ("accept_terms", "eab_key_id = \"k\"\naccept_terms", "eab_key_id", "eab_key_file"),
        ("accept_terms", "until_issued = \"never\"\naccept_terms", "never", "self-signed"),
        ("accept_terms", "mail = \"a@b.example\"\naccept_terms", "mail", "email"),
        ("[acme]", &format!("{wildcard}[acme]"), "*.a.example", "dns-01"),
    ] {
        let config = valid.replacen(from, to, 1);
        let config = if to.starts_with("directory") {
            config.replacen(&format!("directory = \"{}\"\n", bed.ca.directory()), "", 1)
        } else {
            config
        };
        let error = check(&config);
        let line = config.lines().position(|line| line.contains(place)).unwrap() + 1;
        assert!(error.contains(&format!("proxy.toml:{line}:")), "{place}: {error}");
        assert!(error.contains('^') && error.contains(words), "{place}: {error}");
    }
}

// Requirements: CK10.
#[tokio::test]
async fn check_and_start_name_unusable_hook_and_folder() {
    let bed = AcmeBed::new().await;
    bed.state.write("hook", "#!/bin/sh\n");
    bed.state.write("file", "");
    let [hook, file] = ["hook", "file"].map(|name| bed.state.path().join(name));
    let state = format!("{:?}", bed.state.path());
    let config = bed.config(&format!("challenge = \"dns-01\"\ndns_hook = {hook:?}\n"));
    let config = config.replace(&state, &format!("{:?}", file.join("state")));
    let warned = checked(&config, 0);
    let proxy = Proxy::start_bare(&config).await;
    for (key, words, advice) in [
        (
            "dns_hook",
            format!("{}: cannot be executed: Permission denied", hook.display()),
            "chmod +x",
        ),
        ("state_directory", format!("{}: is no folder", file.display()), "mode 0700"),
    ] {
        let line = config.lines().position(|line| line.starts_with(key)).unwrap() + 1;
        let found = warned.lines().find(|line| line.contains(&words));
        let found = found.unwrap_or_else(|| panic!("{words} is not in {warned}"));
        assert!(found.contains(&format!("proxy.toml:{line}:")), "{found}");
        assert!(found.contains(&format!("acme.{key}: ")) && found.contains(advice), "{found}");
        let record = logged(&proxy, &words).await;
        assert_eq!(record["message"], "configuration warning", "{record}");
    }
}

#[tokio::test]
async fn check_warns_about_what_a_public_ca_cannot_do() {
    let bed = AcmeBed::new().await;
    let config = bed.config("").replace("127.0.0.1:0\"\nhttp2", "127.0.0.1:8443\"\nhttp2");
    let config = config.replace("\"a.example\"", "\"chat.local\"");
    let config = config.replacen(&bed.ca.directory(), "letsencrypt", 1);
    let folder = TempDir::new();
    folder.write("proxy.toml", &config);
    let output = Command::new("timeout")
        .args(["20", TIDEGATE, "check", "--config", "proxy.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in [
        "acme.accept_terms: for the challenge",
        "connects to port 443",
        "route[0].host: ",
        "for chat.local,",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}
