//! Secrets of clients do not reach records, whatever their form: encoded, nested or without a name.

use futures_util::StreamExt;

use crate::support::{Backend, Client, HANDSHAKE, Proxy, Record, route};

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTRUNSRVQifQ.SECRET";

// Requirements: UH37.
#[tokio::test]
async fn secrets_in_targets_are_hidden() {
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&route(&[backend.address], "path = \"/ws\"\n")).await;
    let client = Client::new(&proxy).await;
    let cases = [
        // A query in a query in a query.
        ("?next=%2Fa%3Fb%3D%252Fc%253Ftoken%253DSECRET", "?next=[redacted]"),
        ("?%2574oken=SECRET&a=1", "?%2574oken=[redacted]&a=1"),
        ("?q=%7B%22token%22%3A%22SECRET%22%7D&a=1", "?q=[redacted]&a=1"),
        ("?next=https%3A%2F%2Fuser%3ASECRET%40b.example%2F", "?next=[redacted]"),
        ("?next=https://user:SECRET@b.example/&a=1", "?next=https://[redacted]@b.example&a=1"),
        (&format!("?{JWT}"), "?[redacted]"),
        (&format!("?a={JWT}&b=1"), "?a=[redacted]&b=1"),
        (&format!("/{JWT}/b"), "/[redacted]/b"),
        // No secrets.
        (
            "?next=%2Fa%3Fb%3D1&EIO=4&transport=polling",
            "?next=%2Fa%3Fb%3D1&EIO=4&transport=polling",
        ),
    ];
    for (index, (target, shown)) in cases.iter().enumerate() {
        let asked = HANDSHAKE.replace("/ws", &format!("/no{target}"));
        assert_eq!(client.request(asked.as_bytes()).await.status, 404);
        let is_refusal = |record: &Record| record["end"] == "no_route";
        let record = proxy.nth_record("the refusal", index + 1, is_refusal).await;
        assert_eq!(record["target"], format!("/no{shown}"), "{target}");
    }
    let all = proxy.records().iter().map(Record::to_string).collect::<String>();
    assert!(!all.contains("SECRET"), "{all}");
}

// Requirements: UH37.
#[tokio::test]
async fn secret_subprotocols_are_hidden() {
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&route(&[backend.address], "")).await;
    let client = Client::new(&proxy).await;
    let appsync = "header-eyJBdXRob3JpemF0aW9uIjoiU0VDUkVUIn0";
    for (session, (name, shown)) in
        (1..).zip([(JWT, "[redacted]"), (appsync, "[redacted]"), ("v12.stomp", "v12.stomp")])
    {
        let (mut socket, _) =
            client.websocket("/ws", &[("sec-websocket-protocol", name)]).await.unwrap();
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
        assert_eq!(proxy.tunnel_end(session).await["subprotocol"], shown);
    }
}
