//! Warnings about routes for which pages of any name are of the same origin.

use crate::check_command::{config, config_folder, run};
use crate::support::{Proxy, Record, route};

#[test]
fn warns_about_same_origin_for_any_host_without_tls() {
    let plain = |host: &str, listener: &str| {
        let text = config("").replace("\"localhost\"", host);
        format!("{text}[[listener]]\naddress = \"127.0.0.2:0\"\ntls = false\n{listener}")
    };
    let warnings = |text: String| {
        let text = text.replace("key.pem\"", "key.pem\"\ndefault = true");
        let output = run(&config_folder(text), &["check", "--config", "proxy.toml"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        stderr
    };
    let warning = warnings(plain("\"*\"", ""));
    for words in [
        "route[0].origins: \"same-origin\" with host = \"*\" admits any website on the listener 127.0.0.2:0",
        "(DNS rebinding)",
        "host = \"chat.example.com\"",
    ] {
        assert!(warning.contains(words), "{words} is not in {warning}");
    }
    let missing = plain("\"*\"", "").replace("\"same-origin\"", "\"missing\"");
    for text in [
        plain("\"localhost\"", ""),
        plain("\"*\"", "redirect = \"https\"\n"),
        plain("\"*\"", "allow = [\"10.0.0.7\"]\n"),
        config("").replace("\"localhost\"", "\"*\""),
        missing,
    ] {
        assert_eq!(warnings(text), "");
    }
}

#[tokio::test]
async fn rebinding_is_warned_of_at_start() {
    let routes =
        route(&["127.0.0.1:9".parse().unwrap()], "").replace("[\"*\"]", "[\"same-origin\"]");
    let proxy = Proxy::start(&routes).await;
    let warns = |record: &Record| {
        record["message"] == "configuration warning"
            && record["warning"].as_str().is_some_and(|text| text.contains("(DNS rebinding)"))
    };
    proxy.record("a warning about DNS rebinding", warns).await;
}
