//! Maintenance of a route, by command and by a file.

use std::fs;

use serde_json::{Value, json};

use crate::support::control::CONTROL;
use crate::support::head::get;
use crate::support::{
    Backend, Client, HANDSHAKE, MockBackend, Proxy, RawResponse, TempDir, TestBed, assert_relays,
    route, within_timeout,
};

async fn assert_in_maintenance(client: &Client) {
    for request in [get("/"), HANDSHAKE.to_owned()] {
        let response = client.request(request.as_bytes()).await;
        assert_eq!(response.status, 503, "{response:?}");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
}

/// The route of a pool in the status.
async fn pool(proxy: &Proxy) -> Value {
    proxy.command(json!({"command": "status"})).await["pools"][0].clone()
}

#[tokio::test]
async fn command_switches_a_route_and_survives_a_reload() {
    let mock = MockBackend::new().await;
    let other = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let routes = route(&[other.address], "path = \"/other\"").replace("\"all\"", "\"other\"");
    let bed = TestBed::with_backend(mock, &format!("#more\n{routes}{CONTROL}")).await;
    let (mut client, mut backend) = bed.open().await;
    let switch = async |on: bool| {
        let command = json!({"command": "maintenance", "route": "all", "on": on});
        bed.proxy.command(command).await
    };
    assert_eq!(pool(&bed.proxy).await["maintenance"], Value::Null);
    assert_eq!(switch(true).await, json!({"on": true, "file": null}));
    assert_in_maintenance(&bed.client).await;
    assert_eq!(bed.client.request(get("/other").as_bytes()).await.status, 204);
    assert_relays(&mut client, &mut backend).await;
    let record = bed.proxy.end_record("maintenance").await;
    assert_eq!(
        (&record["event"], &record["stage"], &record["route"], &record["status"]),
        (&json!("rejected"), &json!("admit"), &json!("all"), &json!(503))
    );
    assert!(record["key"].is_null(), "{record}");
    assert_eq!(pool(&bed.proxy).await["maintenance"], "command");
    let explain = json!({
        "command": "explain", "url": "ws://localhost/ws", "origin": null, "address": null,
    });
    let explained = bed.proxy.command(explain).await;
    let last = explained["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&explained["status"], &explained["reason"], &last["check"]),
        (&json!(503), &json!("maintenance"), &json!("maintenance"))
    );

    bed.proxy.reload_with("#more\n", "tunnels = 7\n").await;
    assert_in_maintenance(&bed.client).await;
    assert_relays(&mut client, &mut backend).await;
    assert_eq!(switch(false).await, json!({"on": false, "file": null}));
    assert_eq!(bed.client.request(HANDSHAKE.as_bytes()).await.status, 101);
    let unknown = json!({"command": "maintenance", "route": "missing", "on": true});
    assert_eq!(bed.proxy.command_error(unknown).await.0, "not_found");
}

#[tokio::test]
async fn file_switches_a_route_by_its_existence() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let folder = TempDir::new();
    let file = folder.path().join("maintenance");
    fs::write(&file, "").unwrap();
    let keys = format!("maintenance_file = \"{}\"\n{CONTROL}", file.display());
    let proxy = Proxy::start(&route(&[backend.address], &keys)).await;
    let client = Client::new(&proxy).await;
    let logged = async |text: &str| {
        let is_logged = |r: &crate::support::Record| r["message"].to_string().contains(text);
        proxy.record(text, is_logged).await
    };
    // From the first request on.
    assert_in_maintenance(&client).await;
    let record = proxy.end_record("maintenance").await;
    assert_eq!(
        (&record["key"], &record["value"]),
        (&json!("route.maintenance_file"), &json!(file.to_str()))
    );
    assert_eq!(logged("maintenance on").await["file"], json!(file.to_str()));
    assert_eq!(pool(&proxy).await["maintenance"], "file");
    let off = json!({"command": "maintenance", "route": "all", "on": false});
    assert_eq!(proxy.command(off.clone()).await, json!({"on": true, "file": file.to_str()}));

    fs::remove_file(&file).unwrap();
    logged("maintenance off").await;
    assert_eq!(client.request(get("/").as_bytes()).await.status, 204);
    assert_eq!(pool(&proxy).await["maintenance"], Value::Null);
    // A command is not recorded with the file, which does not exist.
    let on = json!({"command": "maintenance", "route": "all", "on": true});
    proxy.command(on).await;
    assert_in_maintenance(&client).await;
    let by_command = |r: &crate::support::Record| r["end"] == "maintenance" && r["key"].is_null();
    assert!(proxy.record("the command", by_command).await["value"].is_null());
    proxy.command(off.clone()).await;
    fs::write(&file, "").unwrap();
    let response = async || -> RawResponse { client.request(get("/").as_bytes()).await };
    within_timeout("maintenance", async { while response().await.status != 503 {} }).await;
    // Without the key the file has no effect.
    proxy.reload_with(&keys, CONTROL).await;
    assert_eq!(response().await.status, 204);
    assert_eq!(proxy.command(off).await, json!({"on": false, "file": null}));
}
