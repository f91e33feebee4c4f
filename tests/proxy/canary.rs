//! Canary backends: a share of the clients, and requests with a mark.

use std::collections::BTreeSet;

use serde_json::json;

use crate::backend_connect::RefusingAddress;
use crate::balancing::{Backends, explained, open, pool_of, with};
use crate::stickiness::named;
use crate::support::{Client, Proxy};

/// A pool in which `c` is a canary and the header `X-User` is hashed, with these keys of `[pool.canary]`.
fn pool(backends: &Backends, canary: &str) -> String {
    let pool = backends.pool(&format!("hash = \"header:X-User\"\n[pool.canary]\n{canary}"));
    pool.replace("id = \"c\"", "id = \"c\", canary = true")
}

/// The users below this number that meet the canary.
async fn on_canary(client: &Client, users: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for user in 0..users {
        // From several addresses, each of which has a rate.
        let from = u8::try_from(user % 200).unwrap() + 1;
        let (_tunnel, name) = open(client, from, &with("/", &format!("X-User: {user}\r\n"))).await;
        if name == "c" {
            found.insert(user);
        }
    }
    found
}

#[tokio::test]
async fn share_of_the_users_meets_the_canary() {
    const USERS: usize = 120;
    let backends = Backends::start(["a", "b", "c"]).await;
    let proxy = Proxy::start(&pool(&backends, "share = \"20%\"")).await;
    let client = Client::new(&proxy).await;
    let set = |share: Option<&str>| json!({"command": "canary", "pool": "chat", "share": share});
    let some = on_canary(&client, USERS).await;
    assert!((10..=40).contains(&some.len()), "{some:?}");
    assert_eq!(proxy.command(set(Some("50%"))).await["share"], "50%");
    let more = on_canary(&client, USERS).await;
    assert!(more.is_superset(&some) && (40..=80).contains(&more.len()), "{more:?}");
    let status = proxy.status("the share", |_| true).await;
    assert_eq!(status["pools"][0]["canary_share"], "50%");
    // The command holds over a reload, and until the file has another share.
    proxy.reload().await;
    assert_eq!(on_canary(&client, USERS).await, more);
    let tunnel =
        open(&client, 1, &with("/", &format!("X-User: {}\r\n", more.first().unwrap()))).await;
    assert_eq!(proxy.command(set(Some("off"))).await["share"], "off");
    assert_eq!(on_canary(&client, USERS).await, BTreeSet::new());
    assert_eq!(tunnel.1, "c");
    proxy.status("the open tunnel", |status| status["tunnels"]["open"] == 1).await;
    proxy.reload_with("share = \"20%\"", "share = \"19.99%\"").await;
    assert!(on_canary(&client, USERS).await.is_subset(&some));
    assert_eq!(proxy.command(set(Some("100%"))).await["share"], "100%");
    assert_eq!(on_canary(&client, 10).await.len(), 10);
    assert_eq!(proxy.command(set(None)).await["share"], "19.99%");
    for (pool, share, kind) in [("chat", "5", "bad_request"), ("other", "5%", "not_found")] {
        let request = json!({"command": "canary", "pool": pool, "share": share});
        assert_eq!(proxy.command_error(request).await.0, kind);
    }
}

#[tokio::test]
async fn marked_requests_meet_the_canary() {
    let backends = Backends::start(["a", "b", "c"]).await;
    for (mark, marked, unmarked) in [
        ("header:X-Canary", with("/", "X-Canary: 1\r\n"), with("/", "X-Canary:\r\n")),
        ("cookie:beta", with("/", "Cookie: beta=1\r\n"), with("/", "Cookie: beta=\r\n")),
        ("query:beta", with("/?beta=1", ""), with("/?beta=", "")),
    ] {
        let proxy = Proxy::start(&pool(&backends, &format!("request = \"{mark}\""))).await;
        let client = Client::new(&proxy).await;
        for from in 1..6 {
            assert_eq!(open(&client, from, &marked).await.1, "c", "{mark}");
            assert_ne!(open(&client, from, &unmarked).await.1, "c", "{mark}");
        }
        if mark == "header:X-Canary" {
            let result = explained(&proxy, "ws://localhost/", &["X-Canary: 1"]).await;
            assert!(result.starts_with("c (weight 1, canary, up)"), "{result}");
            let result = explained(&proxy, "ws://localhost/", &[]).await;
            assert!(!result.contains("canary"), "{result}");
        }
        let off = json!({"command": "canary", "pool": "chat", "share": "off"});
        proxy.command(off).await;
        assert_ne!(open(&client, 1, &marked).await.1, "c", "{mark}");
    }
}

#[tokio::test]
async fn other_backends_serve_when_the_canary_is_down() {
    let (steady, refusing) = (named("steady").await, RefusingAddress::new());
    let list = format!(
        "{{ address = \"{}\", id = \"next\", canary = true }}, {{ address = \"{}\", id = \"steady\" }}",
        refusing.address, steady.address
    );
    let proxy = Proxy::start(&pool_of(&list, "[pool.canary]\nshare = \"100%\"")).await;
    let client = Client::new(&proxy).await;
    let result = explained(&proxy, "ws://localhost/", &[]).await;
    assert!(result.starts_with("next (weight 1, canary, untried); then steady"), "{result}");
    for from in 1..5 {
        assert_eq!(open(&client, from, &with("/", "")).await.1, "steady");
    }
}

/// Turns go on where they were among the others when a canary had one in between.
#[tokio::test]
async fn turns_stay_even_between_canary_requests() {
    let backends = Backends::start(["a", "b", "c", "d"]).await;
    let keys = "balance = \"round-robin\"\n[pool.canary]\nrequest = \"header:X-Canary\"";
    let pool = backends.pool(keys).replace("id = \"c\"", "id = \"c\", canary = true");
    let proxy = Proxy::start(&pool.replace("id = \"d\"", "id = \"d\", canary = true")).await;
    let client = Client::new(&proxy).await;
    let mut found = String::new();
    for from in 1..9 {
        found.push_str(&open(&client, from, &with("/", "")).await.1);
        found.push_str(&open(&client, from, &with("/", "X-Canary: 1\r\n")).await.1);
    }
    let count = |name| found.matches(name).count();
    assert_eq!(["a", "b", "c", "d"].map(count), [4; 4], "{found}");
}

#[tokio::test]
async fn only_pools_have_canaries() {
    let (one, two) = (named("one").await, named("two").await);
    let list = format!(
        "{{ address = \"{}\", id = \"next\", canary = true }}, {{ address = \"{}\", id = \"steady\" }}",
        one.address, two.address
    );
    let more = format!(
        "[[route]]\nname = \"rest\"\nhost = \"rest.example\"\norigins = [\"*\"]\n\
         backends = [\"{}\"]\n",
        one.address
    );
    let proxy = Proxy::start(&(pool_of(&list, "[pool.canary]\nshare = \"25%\"\n") + &more)).await;
    let canary = |pool: &str| json!({"command": "canary", "pool": pool, "share": "5%"});
    let (kind, message) = proxy.command_error(canary("rest")).await;
    assert_eq!(kind, "not_found");
    assert!(message.starts_with("route \"rest\" lists its backends itself"), "{message}");
    let (_, message) = proxy.command_error(canary("nowhere")).await;
    assert!(
        message.starts_with("unknown pool \"nowhere\"; known: ") && !message.contains("rest"),
        "{message}"
    );
    // What each backend should have of the requests.
    let status = proxy.command(json!({"command": "status"})).await;
    let backends = status["pools"][0]["backends"].as_array().unwrap();
    let expected: Vec<(&str, f64)> = backends
        .iter()
        .map(|of| (of["id"].as_str().unwrap(), of["expected_share"].as_f64().unwrap()))
        .collect();
    assert_eq!(expected, [("next", 0.25), ("steady", 0.75)]);
}
