//! Handwritten request heads, and a runner for tables of heads that must be rejected.

use tokio::io::{AsyncWriteExt, BufReader};

use super::{Backend, Client, HANDSHAKE, Proxy, read_response, read_to_end, route};

/// The bytes to send, the expected status, and the reason expected in the record.
pub type Case = (Vec<u8>, u16, &'static str);

/// Sends each case on its own connection, to a route for `localhost`. Each must be answered with
/// its status, closed, and recorded once; none may reach the backend.
pub async fn assert_rejected(cases: Vec<Case>) {
    assert_rejected_with(
        &|backend| route(&[backend.address], "").replace("\"*\"\nor", "\"localhost\"\nor"),
        cases,
    )
    .await;
}

/// Like [`assert_rejected`], with the test's own routes.
pub async fn assert_rejected_with(routes: &dyn Fn(&Backend) -> String, cases: Vec<Case>) {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::start(&routes(&backend)).await;
    let client = Client::new(&proxy).await;
    let mut wrong = Vec::new();
    for (number, (sent, status, end)) in cases.iter().enumerate() {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(sent).await.unwrap();
        let response = read_response(&mut stream).await;
        read_to_end(&mut stream).await;
        drop(stream);
        let record = proxy.nth_end_record(number + 1).await;
        let recorded = (record["status"].as_u64(), record["end"].as_str());
        if response.status != *status || recorded != (Some(u64::from(*status)), Some(end)) {
            let sent = String::from_utf8_lossy(&sent[..sent.len().min(300)]);
            wrong.push(format!("{sent:?}: {status} {end} expected, got {response:?}, {record}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(proxy.outcomes().len(), cases.len(), "one record each: {:#?}", proxy.outcomes());
    // A request that had reached the backend would be listed before this one.
    assert_eq!(client.request(get("/valid").as_bytes()).await.status, 204);
    let heads = backend.heads();
    assert!(matches!(&heads[..], [only] if only.starts_with("GET /valid ")), "{heads:#?}");
}

/// The valid handshake with additional header lines.
pub fn with_lines(lines: &str) -> String {
    HANDSHAKE.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"), 1)
}

/// The valid handshake with this header replaced by `lines`, which may be empty.
pub fn replacing(name: &str, lines: &str) -> String {
    let (before, rest) = HANDSHAKE.split_once(&format!("{name}: ")).unwrap();
    let (_, after) = rest.split_once("\r\n").unwrap();
    let end = if lines.is_empty() { "" } else { "\r\n" };
    format!("{before}{lines}{end}{after}")
}

/// A plain GET request for this target.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Turns heads into cases with the same status and reason.
pub fn to_cases(
    heads: impl IntoIterator<Item = String>,
    status: u16,
    end: &'static str,
) -> Vec<Case> {
    heads.into_iter().map(|head| (head.into_bytes(), status, end)).collect()
}
