//! Pools that several routes use.

use serde_json::json;

use crate::check_command::{config, config_folder, run};
use crate::support::control::CONTROL;
use crate::support::{Backend, Client, HANDSHAKE, Proxy, within_timeout};

/// Two routes, `/a` and the rest, that use the same pool.
fn two_routes(backends: &str) -> String {
    let route = |name: &str, path: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"*\"\npath = \"{path}\"\norigins = [\"*\"]\n\
             pool = \"chat\"\n"
        )
    };
    let pool = format!("[[pool]]\nname = \"chat\"\nbackends = [{backends}]\n");
    format!("{CONTROL}{}{}{pool}", route("a", "/a"), route("rest", "/"))
}

#[tokio::test]
async fn routes_reach_the_backends_of_their_pool() {
    let backend = Backend::app("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = Proxy::start(&two_routes(&format!("\"{}\"", backend.address))).await;
    let client = Client::new(&proxy).await;
    for path in ["/a", "/b"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.request(request.as_bytes()).await.status, 200);
    }
    let paths: Vec<String> =
        backend.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/a", "/b"]);
    let status = proxy.status("both routes", |_| true).await;
    for (row, name) in ["a", "rest"].iter().enumerate() {
        let pool = &status["pools"][row];
        assert_eq!((&pool["route"], &pool["pool"]), (&json!(name), &json!("chat")));
        assert_eq!(pool["backends"][0]["state"], "up");
    }
    let keys = proxy.command(json!({"command": "config"})).await["keys"].clone();
    let value = |key: &str| {
        let keys = keys.as_array().unwrap();
        keys.iter().find(|row| row["key"] == key).map(|row| row["value"].clone())
    };
    assert_eq!(value("route[0].pool"), Some(json!("\"chat\"")));
    let address = Some(json!(format!("\"{}\"", backend.address)));
    assert_eq!(value("pool[0].backends[0].address"), address);
    assert_eq!(value("route[0].backends[0].address"), None);
}

#[tokio::test]
async fn reload_of_a_pool_reaches_all_its_routes() {
    let [old, new] = [Backend::echo().await, Backend::echo().await];
    let proxy = Proxy::start(&two_routes(&format!("\"{}\"", old.address))).await;
    proxy.reload_with(&old.address.to_string(), &new.address.to_string()).await;
    let client = Client::new(&proxy).await;
    for path in ["/a", "/b"] {
        let handshake = HANDSHAKE.replacen("GET / ", &format!("GET {path} "), 1);
        assert_eq!(client.request(handshake.as_bytes()).await.status, 101);
    }
    assert_eq!((old.heads().len(), new.heads().len()), (0, 2));
}

#[tokio::test]
async fn record_names_the_key_of_the_pool() {
    let refusing =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    refusing.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = refusing.local_addr().unwrap().as_socket().unwrap();
    let proxy = Proxy::start(&two_routes(&format!("\"{address}\""))).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 503);
    let record = within_timeout("a record", proxy.end_record("no_backend")).await;
    assert_eq!((&record["key"], &record["route"]), (&json!("pool.backends"), &json!("rest")));
}

#[test]
fn check_warns_of_unused_pools() {
    let unused = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9\"]\n";
    let folder = config_folder(config(unused));
    let checked = run(&folder, &["check", "--config", "proxy.toml"]);
    let text = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{text}");
    assert!(text.contains("pool[0].name: no route uses this pool"), "{text}");
}
