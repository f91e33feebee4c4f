//! `/status` and `/status.json`: their content, who may read them, and the page's security policy.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    HANDSHAKE, Proxy, RawResponse, TestBed, assert_relays, close_normally, get, read_response,
    read_to_end, wire, within_timeout,
};

impl Proxy {
    /// Polls `/status.json` until it matches.
    pub async fn status(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        within_timeout(what, async {
            loop {
                let (response, body) = get(self.admin().await, "/status.json").await;
                assert_eq!(response.status, 200, "{response:?}");
                assert_eq!(response.header("content-type"), Some("application/json"));
                let status: Value = serde_json::from_slice(&body).unwrap();
                if fits(&status) {
                    return status;
                }
                // The data are refreshed twice a second.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await
    }
}

#[tokio::test]
async fn json_follows_tunnels_and_rejections() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open_secure().await;
    let other = bed.open_from([127, 0, 0, 2]).await;
    assert_relays(&mut client, &mut backend).await;
    bed.client.request(HANDSHAKE.replace("13\r\n", "12\r\n").as_bytes()).await;
    let status = bed.proxy.status("two tunnels", |status| status["messages"]["up"] == 1).await;
    assert_eq!((&status["tunnels"]["open"], &status["tunnels"]["opened"]), (&2.into(), &2.into()));
    assert_eq!((&status["state"], &status["generation"]), (&"running".into(), &1.into()));
    assert_eq!(status["requests_rejected"], 1);
    let refused = serde_json::json!([{ "stage": "admit", "reason": "version", "count": 1 }]);
    assert_eq!(status["rejected"], refused);
    assert_eq!((&status["bytes"]["up"], &status["bytes"]["down"]), (&8.into(), &6.into()));
    let pool = &status["pools"][0];
    assert_eq!((&pool["route"], &pool["tunnels"]), (&"all".into(), &2.into()));
    let row = &pool["backends"][0];
    assert_eq!(row["id"], bed.backend.address().to_string());
    assert_eq!(
        (&row["state"], &row["share"], &row["tunnels"]),
        (&"up".into(), &1.0.into(), &2.into())
    );
    let clients: Vec<&str> = status["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["client"].as_str().unwrap())
        .collect();
    assert_eq!(clients.len(), 2);
    assert!(clients.contains(&"127.0.0.1") && clients.contains(&"127.0.0.2"), "{clients:?}");
    let busiest = &status["busiest"][0];
    assert_eq!((&busiest["session"], &busiest["bytes"]), (&1.into(), &14.into()));
    assert_eq!(status["certificates"][0]["name"], "localhost");
    assert_eq!(status["reload"], Value::Null);
    close_normally(client, backend).await;
    close_normally(other.0, other.1).await;
    let status = bed.proxy.status("the ends", |status| status["tunnels"]["open"] == 0).await;
    let ended = serde_json::json!([{
        "by": "client", "reason": "client_closed", "count": 2,
        "routes": [{ "route": "all", "count": 2 }], "routes_total": 1,
    }]);
    assert_eq!(status["ended"], ended);
    assert_eq!(
        (&status["busiest"], &status["clients"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    assert_eq!(status["close_frames"].as_array().unwrap().len(), 2, "{status}");
}

#[tokio::test]
async fn active_tunnel_has_a_rate() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
    // The first response has no earlier sample to compare with.
    let status = bed.proxy.status("the tunnel", |_| true).await;
    for row in [&status["busiest"][0], &status["clients"][0]] {
        assert_eq!(row["messages_per_second"], Value::Null, "{row}");
        assert_eq!(row["bytes_per_second"], Value::Null, "{row}");
    }
    assert_relays(&mut client, &mut backend).await;
    let rate = |status: &Value| {
        let row = &status["busiest"][0];
        row["messages_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
    };
    let status = bed.proxy.status("a rate", rate).await;
    assert!(status["clients"][0]["bytes_per_second"].as_f64().unwrap() > 0.0, "{status}");
}

#[tokio::test]
async fn lists_are_limited_to_ten_entries() {
    let bed = TestBed::with("").await;
    let mut open = Vec::new();
    for host in 2..20 {
        open.push(bed.open_from([127, 0, 0, host]).await);
    }
    let (mut client, mut backend) = bed.open_from([127, 0, 0, 19]).await;
    assert_relays(&mut client, &mut backend).await;
    let status = bed.proxy.status("all of them", |status| status["tunnels"]["open"] == 19).await;
    let length = |list: &str| status[list].as_array().unwrap().len();
    assert_eq!((length("clients"), length("busiest")), (10, 10));
    let first = &status["clients"][0];
    assert_eq!((&first["client"], &first["tunnels"]), (&"127.0.0.19".into(), &2.into()));
    drop(open);
}

#[tokio::test]
async fn last_reload_shows_changes_or_errors() {
    let bed = TestBed::with("").await;
    bed.proxy.reload().await;
    let status = bed.proxy.status("a reload", |status| !status["reload"].is_null()).await;
    assert_eq!(status["reload"]["applied"], true);
    assert!(status["reload"]["changed"].as_str().unwrap().starts_with("no changes in the file"));
    bed.proxy.reload_with("[[route]]", "[[rout]]").await;
    let refused = |status: &Value| status["reload"]["applied"] == false;
    let status = bed.proxy.status("a refused one", refused).await;
    let faults = status["reload"]["errors"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault.as_str().unwrap().contains("rout")), "{faults:?}");
    assert_eq!(status["generation"], 2);
    // More errors than are listed anywhere.
    let unknown: String = (0..150).map(|n| format!("zebra{n} = 1\n")).collect();
    bed.proxy.reload_with("[[rout]]", &format!("[[route]]\n{unknown}")).await;
    let all = |status: &Value| status["reload"]["errors_total"] == 150;
    let status = bed.proxy.status("150 errors", all).await;
    assert_eq!(status["reload"]["errors"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn page_has_a_strict_content_security_policy() {
    let bed = TestBed::with("").await;
    let (response, body) = get(bed.proxy.admin().await, "/status").await;
    let page = String::from_utf8(body).unwrap();
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = response.header("content-security-policy").unwrap();
    let (_, nonce) = policy.split_once("script-src 'nonce-").unwrap();
    let (nonce, _) = nonce.split_once('\'').unwrap();
    let expected = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(policy, expected);
    assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert_eq!(page.matches("<script").count() + page.matches("<style").count(), 2);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let (_, again) = get(bed.proxy.admin().await, "/status").await;
    assert!(!String::from_utf8(again).unwrap().contains(nonce), "the nonce was reused");
}

/// Sends a request head to the admin listener.
async fn ask(proxy: &Proxy, head: &str) -> (RawResponse, Vec<u8>) {
    let mut stream = BufReader::new(TcpStream::connect(proxy.admin().await).await.unwrap());
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = read_response(&mut stream).await;
    (response, read_to_end(&mut stream).await)
}

#[tokio::test]
async fn foreign_host_names_are_rejected() {
    let bed = TestBed::with("").await;
    let admin = bed.proxy.admin().await;
    let asked =
        |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    let own = [
        &admin.to_string(),
        "localhost",
        "LOCALHOST:1",
        "192.0.2.1",
        "[::1]:9090",
        "[2001:db8::1]",
    ];
    for host in own {
        let (response, _) =
            ask(&bed.proxy, &asked("/status.json", &format!("Host: {host}\r\n"))).await;
        assert_eq!(response.status, 200, "{host}");
    }
    let foreign = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "a:b:c",
        "[::1",
        "",
    ];
    for path in ["/status", "/status.json", "/metrics", "/healthz", "/nothing"] {
        for host in foreign {
            let (response, body) =
                ask(&bed.proxy, &asked(path, &format!("Host: {host}\r\n"))).await;
            assert_eq!(response.status, 421, "{path} {host}");
            assert!(String::from_utf8(body).unwrap().contains("localhost"));
        }
    }
    // A foreign name in a second Host field, and one in the target.
    let twice = asked("/status", "Host: localhost\r\nHost: evil.example\r\n");
    assert_eq!(ask(&bed.proxy, &twice).await.0.status, 421);
    let absolute = asked("http://evil.example/status", "Host: localhost\r\n");
    assert_eq!(ask(&bed.proxy, &absolute).await.0.status, 421);
    // A request without Host does not come from a browser.
    let old = "GET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(ask(&bed.proxy, old).await.0.status, 200);
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let bed = TestBed::with("").await;
    for path in ["/status", "/status.json", "/metrics"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (response, body) = ask(&bed.proxy, &head).await;
        assert_eq!((response.status, body.len()), (200, 0), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let (response, _) = ask(&bed.proxy, &head.replacen("HEAD", method, 1)).await;
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD")),
                "{method}"
            );
        }
    }
    let (response, body) = get(bed.proxy.admin().await, "/nothing").await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(response.status, 404);
    for path in ["/status", "/status.json", "/metrics", "/healthz", "/readyz"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{path} "))), "{text}");
    }
}

#[tokio::test]
async fn status_requests_do_not_delay_tunnels() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let admin = bed.proxy.admin().await;
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        watchers.spawn(async move { get(admin, "/status.json").await.0.status });
    }
    for _ in 0..20 {
        assert_relays(&mut client, &mut backend).await;
    }
    let answers = within_timeout("the watchers", watchers.join_all()).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    let mut one = [0];
    client.write_all(&wire::masked(0x81, b"x")).await.unwrap();
    within_timeout("a byte", backend.read_exact(&mut one)).await.unwrap();
}
