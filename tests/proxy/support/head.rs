//! Request heads by hand, and tables of those that are refused.

use tokio::io::{AsyncWriteExt, BufReader};

use super::{Backend, Client, HANDSHAKE, Proxy, read_response, read_to_end, route};

/// What is sent, the status it gets, and the name in its record.
pub type Case = (Vec<u8>, u16, &'static str);

/// Sends each on a connection of its own, to a route for `localhost`. Every one must be answered,
/// its connection closed, its one record written, and the backend must have heard nothing.
pub async fn assert_rejected(cases: Vec<Case>) {
    assert_rejected_with(
        &|backend| route(&[backend.address], "").replace("\"*\"\nor", "\"localhost\"\nor"),
        cases,
    )
    .await;
}

/// The same, with routes of the test's own.
pub async fn assert_rejected_with(routes: &dyn Fn(&Backend) -> String, cases: Vec<Case>) {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::start(&routes(&backend)).await;
    let client = Client::new(&proxy).await;
    let mut wrong = Vec::new();
    for (number, (sent, status, end)) in cases.iter().enumerate() {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(sent).await.unwrap();
        let answer = read_response(&mut stream).await;
        read_to_end(&mut stream).await;
        drop(stream);
        let record = proxy.nth_outcome(number + 1).await;
        if (answer.status, record["end"].as_str()) != (*status, Some(end)) {
            let sent = String::from_utf8_lossy(&sent[..sent.len().min(300)]);
            wrong.push(format!("{sent:?}: {status} {end} expected, got {answer:?}, {record}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(proxy.outcomes().len(), cases.len(), "one record each: {:#?}", proxy.outcomes());
    // Whatever had reached the backend would stand before this.
    assert_eq!(client.ask(get("/lawful").as_bytes()).await.status, 204);
    let heads = backend.heads();
    assert!(matches!(&heads[..], [only] if only.starts_with("GET /lawful ")), "{heads:#?}");
}

/// The lawful handshake with lines more.
pub fn with_lines(lines: &str) -> String {
    HANDSHAKE.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"), 1)
}

/// The lawful handshake with other lines, or none, where this one stands.
pub fn replacing(name: &str, lines: &str) -> String {
    let (before, rest) = HANDSHAKE.split_once(&format!("{name}: ")).unwrap();
    let (_, behind) = rest.split_once("\r\n").unwrap();
    let end = if lines.is_empty() { "" } else { "\r\n" };
    format!("{before}{lines}{end}{behind}")
}

/// A plain request for this target.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Cases that are alike but for their heads.
pub fn to_cases(
    heads: impl IntoIterator<Item = String>,
    status: u16,
    end: &'static str,
) -> Vec<Case> {
    heads.into_iter().map(|head| (head.into_bytes(), status, end)).collect()
}
