//! Cookies by which a client comes back to its backend.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncWriteExt, BufReader};

use crate::backend_connect::RefusingAddress;
use crate::balancing::{Backends, explained, open, pool_of, until_ejected, with};
use crate::check_command::{config, config_folder, run};
use crate::stickiness::named;
use crate::support::{Client, Proxy, TempDir, read_response, read_to_end};

/// A folder with the file `pin.key`, which has these keys, each of one repeated byte.
struct Keys(TempDir);

impl Keys {
    fn new(bytes: &[u8]) -> Self {
        let keys = Self(TempDir::new());
        keys.write(bytes);
        keys
    }

    fn write(&self, bytes: &[u8]) {
        let lines = bytes.iter().map(|byte| format!("{byte:02x}").repeat(32) + "\n");
        self.0.write("pin.key", lines.collect::<String>());
        let path = self.0.path().join("pin.key");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Keys of a pool in turn, so that only the cookie keeps a client, with these keys of `[pool.pin]`.
    fn pin(&self, more: &str) -> String {
        let file = self.0.path().join("pin.key");
        format!(
            "balance = \"round-robin\"\n[pool.pin]\ncookie = \"srv\"\nkey_file = \"{}\"\n{more}",
            file.display()
        )
    }
}

/// A plain request with this cookie: the backend that answered, and the `Set-Cookie` of the response.
async fn get(client: &Client, cookie: &str) -> (String, Option<String>) {
    let mut stream = BufReader::new(client.connect_plain().await);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(response.status, 200);
    let name = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    (name, response.header("set-cookie").map(str::to_owned))
}

/// The backend and the cookie of a client that had none.
async fn first_cookie(client: &Client) -> (String, String) {
    let (name, field) = get(client, "other=1").await;
    (name, pair(&field.unwrap()).to_owned())
}

/// `srv=...` of a `Set-Cookie`.
fn pair(field: &str) -> &str {
    field.split(';').next().unwrap()
}

#[tokio::test]
async fn cookie_leads_back_to_its_backend() {
    let (backends, keys) = (Backends::start(["a", "b", "c"]).await, Keys::new(&[1]));
    let proxy = Proxy::start(&backends.pool(&keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let (name, field) = get(&client, "").await;
        let field = field.unwrap();
        assert!(field.ends_with("; Path=/; SameSite=Lax; Secure; HttpOnly"), "{field}");
        cookies.push((name, pair(&field).to_owned()));
    }
    let of = |names: &[(String, String)]| {
        let mut names: Vec<_> = names.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(of(&cookies), ["a", "b", "c"]);
    for (name, cookie) in &cookies {
        assert_eq!(get(&client, &format!("x=1; {cookie}")).await, (name.clone(), None));
        let (_tunnel, found) = open(&client, 9, &with("/", &format!("Cookie: {cookie}\r\n"))).await;
        assert_eq!(found, *name);
    }
    let choices = |reason| [("route", "all"), ("chosen_by", reason)];
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.value("tidegate_backend_choices_total", &choices("pin")), 6.0);
    drop(proxy);

    // Another process with the same key, and backends at other addresses.
    let moved = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&moved.pool(&keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    for (name, cookie) in &cookies {
        assert_eq!(get(&client, cookie).await, (name.clone(), None));
    }
}

#[tokio::test]
async fn the_101_carries_the_cookie() {
    let (backends, keys) = (Backends::start(["a", "b"]).await, Keys::new(&[1]));
    let attributes = "same_site = \"none\"\npartitioned = true\nhttp_only = false\npath = \"/app\"\n\
                      domain = \"example.com\"\n";
    let proxy = Proxy::start(&backends.pool(&keys.pin(attributes))).await;
    let client = Client::new(&proxy).await;
    let response = client.request(with("/", "Cookie: srv=\r\n").as_bytes()).await;
    let field = response.header("set-cookie").unwrap();
    let rest = field.split_once("; ").unwrap().1;
    assert_eq!(
        (response.status, rest),
        (101, "Path=/app; Domain=example.com; SameSite=None; Secure; Partitioned")
    );
    let again = with("/", &format!("Cookie: {}\r\n", pair(field)));
    let response = client.request(again.as_bytes()).await;
    assert_eq!((response.status, response.header("set-cookie")), (101, None));
}

#[tokio::test]
async fn forged_cookies_are_ignored() {
    let (backends, keys) = (Backends::start(["a", "b"]).await, Keys::new(&[1]));
    let proxy = Proxy::start(&backends.pool(&keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    let (_, cookie) = first_cookie(&client).await;
    let changed = match cookie.strip_suffix('A') {
        Some(rest) => format!("{rest}Q"),
        None => format!("{}A", &cookie[..cookie.len() - 1]),
    };
    let long = format!("srv={}", "A".repeat(4_000));
    for forged in [&changed, &long, "srv=a", "srv=", "srv", "srv=../../x", "srv=\"a\""] {
        let (_, field) = get(&client, forged).await;
        assert!(field.is_some(), "{forged}");
    }
}

#[tokio::test]
async fn new_key_replaces_cookies_of_the_old_one() {
    let (backends, keys) = (Backends::start(["a", "b"]).await, Keys::new(&[1]));
    let proxy = Proxy::start(&backends.pool(&keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    let (name, old) = first_cookie(&client).await;
    keys.write(&[2, 1]);
    proxy.reload().await;
    let (found, field) = get(&client, &old).await;
    let new = pair(&field.unwrap()).to_owned();
    assert_eq!(found, name);
    assert_eq!(get(&client, &new).await, (name.clone(), None));
    keys.write(&[2]);
    proxy.reload().await;
    assert_eq!(get(&client, &new).await, (name, None));
    assert!(get(&client, &old).await.1.is_some());
}

#[tokio::test]
async fn value_of_another_proxy_keeps_its_session() {
    let (backends, keys) = (Backends::start(["a", "b"]).await, Keys::new(&[1]));
    let pool =
        backends.pool(&keys.pin("")).replace("id = \"b\"", "id = \"b\", cookie_value = \"s2\"");
    let proxy = Proxy::start(&pool).await;
    let client = Client::new(&proxy).await;
    for cookie in ["srv=s2", "srv=s2", "srv=s2|YJk3q|YJk3q"] {
        assert_eq!(get(&client, cookie).await, ("b".to_owned(), None));
    }
    let result = explained(&proxy, "ws://localhost/", &["Cookie: srv=s2"]).await;
    assert!(
        result.starts_with("b ") && result.contains("which the cookie of another proxy names"),
        "{result}"
    );
}

#[tokio::test]
async fn drained_backend_gives_up_its_clients() {
    let (backends, keys) = (Backends::start(["a", "b"]).await, Keys::new(&[1]));
    let proxy = Proxy::start(&backends.pool(&keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    let (name, cookie) = first_cookie(&client).await;
    let drain = serde_json::json!({"command": "drain", "selection": {"backend": name}, "all": false,
        "pacing": {}, "close": {}, "wait": true});
    proxy.command(drain).await;
    let (other, field) = get(&client, &cookie).await;
    assert_ne!(other, name);
    let field = field.unwrap();
    assert_eq!(get(&client, pair(&field)).await, (other, None));
    // Removed: as if there were no cookie.
    let removed = format!("id = \"{name}\"");
    proxy.reload_with(&removed, "id = \"renamed\"").await;
    assert!(get(&client, &cookie).await.1.is_some());
}

#[tokio::test]
async fn dead_backend_gives_up_its_clients() {
    let (alive, keys) = (named("alive").await, Keys::new(&[1]));
    let refusing = RefusingAddress::new();
    let list = format!(
        "{{ address = \"{}\", id = \"dead\", cookie_value = \"s1\" }}, {{ address = \"{}\", id = \"alive\" }}",
        refusing.address, alive.address
    );
    let proxy = Proxy::start(&pool_of(&list, &keys.pin(""))).await;
    let client = Client::new(&proxy).await;
    for _ in 0..3 {
        let (name, field) = get(&client, "srv=s1").await;
        assert_eq!(name, "alive");
        assert!(field.is_some());
    }
    until_ejected(&proxy, "dead").await;
    let result = explained(&proxy, "ws://localhost/", &["Cookie: srv=s1"]).await;
    assert!(result.starts_with("alive "), "{result}");
}

#[test]
fn check_refuses_a_key_that_others_may_read() {
    let pool = "[[pool]]\nname = \"chat\"\nbackends = [\"127.0.0.1:9\"]\n[pool.pin]\ncookie = \"srv\"\n\
                key_file = \"pin.key\"\n";
    let folder = config_folder(config(pool));
    let check = |key: &str, mode| {
        folder.write("pin.key", key);
        let path = folder.path().join("pin.key");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&folder, &["check", "--config", "proxy.toml"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let key = "01".repeat(32);
    assert_eq!(check(&key, 0o600).0, Some(0));
    for (key, mode, part) in [
        (key.as_str(), 0o644, "other users may read or change this key (mode 0644)"),
        ("0123", 0o600, "a key of 2 bytes; 32 to 64 are required"),
        ("", 0o600, "there is no key in this file"),
    ] {
        let (status, text) = check(key, mode);
        assert_ne!(status, Some(0));
        assert!(text.contains("pool[0].pin.key_file: ") && text.contains(part), "{text}");
        assert!(text.contains("key_file = \"pin.key\"") && text.contains('^'), "{text}");
    }
}
