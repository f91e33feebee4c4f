//! The effective configuration, a preview of another one, and the log level.

use std::fs;

use serde_json::{Value, json};

use crate::support::control::CONTROL;
use crate::support::{Record, TestBed};

#[tokio::test]
async fn config_shows_the_source_of_each_value() {
    let bed = TestBed::with(&format!("{CONTROL}[limits]\nidle = \"7m\"\n")).await;
    let response = bed.proxy.command(json!({"command": "config"})).await;
    assert!(response["file"].as_str().unwrap().ends_with("proxy.toml"), "{response:#}");
    let keys = response["keys"].as_array().unwrap();
    let key = |name: &str| keys.iter().find(|key| key["key"] == name).unwrap_or(&Value::Null);
    let line = bed.proxy.config().lines().position(|line| line.starts_with("idle")).unwrap();
    assert_eq!(key("limits.idle")["value"], "\"7m\"");
    assert_eq!(key("limits.idle")["line"], line + 1);
    assert_eq!(key("route[0].limits.idle")["from"], "limits.idle");
    assert_eq!(key("drain.window")["from"], "default");
}

#[tokio::test]
async fn diff_previews_changes_without_applying_them() {
    let bed = TestBed::with(CONTROL).await;
    let (mut client, mut backend) = bed.open().await;
    let text = bed.proxy.config();
    let diff = |text: &str| {
        let path = bed.proxy.folder().join("proxy.toml").display().to_string();
        json!({"command": "diff", "path": path, "text": text})
    };
    let same = bed.proxy.command(diff(&text)).await;
    assert_eq!((&same["changes"], &same["generation"]), (&json!([]), &1.into()));
    let other = text.replace("name = \"all\"", "name = \"all\"\ntunnels = 5");
    let response = bed.proxy.command(diff(&other)).await;
    let change = &response["changes"][0];
    assert_eq!(
        (&change["section"], &change["name"]),
        (&"route".into(), &"all".into()),
        "{response:#}"
    );
    assert_eq!((&change["tunnels"], &change["action"]), (&1.into(), &"changed".into()));
    assert_eq!(
        change["keys"][0],
        json!({"key": "route[0].tunnels", "before": "\"off\"", "after": "5"})
    );
    let (kind, _) = bed.proxy.command_error(diff(&text.replace("[\"*\"]", "[]"))).await;
    assert_eq!(kind, "rejected");
    let lost = text.replace("chain.pem", "nowhere.pem");
    assert_eq!(bed.proxy.command_error(diff(&lost)).await.0, "rejected");
    assert_eq!(fs::read_to_string(bed.proxy.folder().join("proxy.toml")).unwrap(), text);
    assert_eq!(bed.proxy.command(json!({"command": "status"})).await["generation"], 1);
    crate::support::assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn log_level_changes_at_run_time() {
    let bed = TestBed::with(CONTROL).await;
    let level = |level: Option<&str>| json!({"command": "log_level", "level": level});
    assert_eq!(bed.proxy.command(level(None)).await["level"], "debug");
    assert_eq!(bed.proxy.command(level(Some("warn"))).await["level"], "warn");
    // Commands are logged at info, before they run; a reload is logged at info too. Between the
    // last command logged before the level rises and the first one after it falls, nothing is.
    bed.proxy.command(json!({"command": "reload"})).await;
    assert_eq!(bed.proxy.command(level(Some("debug"))).await["level"], "debug");
    assert_eq!(bed.proxy.command(level(Some("trace"))).await["level"], "trace");
    let mentions = |level: &'static str| move |record: &Record| record.to_string().contains(level);
    bed.proxy.record("the last command", mentions("log level trace")).await;
    let records = bed.proxy.records();
    let position = |level| records.iter().position(mentions(level)).unwrap();
    let between = &records[position("log level warn") + 1..position("log level trace")];
    assert!(between.iter().all(|record| record["level"] != "INFO"), "{between:#?}");
    assert_eq!(bed.proxy.command_error(level(Some("loud"))).await.0, "bad_request");
}

#[tokio::test]
async fn config_marks_overrides_and_pending_restarts() {
    let bed = TestBed::with(CONTROL).await;
    let id = bed.backend.address().to_string();
    let weigh = json!({"command": "weight", "backend": id, "route": null, "weight": 3});
    bed.proxy.command(weigh).await;
    bed.proxy.command(json!({"command": "log_level", "level": "trace"})).await;
    bed.proxy.reload_with("format = \"json\"", "format = \"text\"").await;
    let response = bed.proxy.command(json!({"command": "config"})).await;
    let keys = response["keys"].as_array().unwrap();
    for (name, value, from) in [
        ("route[0].backends[0].weight", "3", "ctl"),
        ("log.level", "\"trace\"", "ctl"),
        ("log.format", "\"json\"", "start; a restart applies the file's value"),
    ] {
        let key = keys.iter().find(|key| key["key"] == name).unwrap_or(&Value::Null);
        assert_eq!((&key["value"], &key["from"]), (&value.into(), &from.into()), "{name}");
    }
    let status = bed.proxy.command(json!({"command": "status"})).await;
    assert_eq!(status["restart_required"], json!(["log.format"]));
    assert_eq!(status["generation"], 2, "of this moment");
}
