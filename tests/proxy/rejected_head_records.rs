//! What the records of request heads that cannot be parsed show, and what they do not.

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::head::get;
use crate::support::{Backend, Client, Proxy, read_response, read_to_end};

/// Heads that cannot be parsed, with the status, the target and the host in their records, or `-`.
fn cases() -> Vec<(String, u16, &'static str, &'static str)> {
    let start = "GET /ws?token=secret&room=1 HTTP/1.1\r\nHost: App.example:80\r\n";
    let shown = "/ws?token=[redacted]&room=1";
    let endless = u64::MAX;
    vec![
        (format!("{start}X Y: secret\r\n\r\n"), 400, shown, "App.example:80"),
        (format!("{start}Cookie: {}", "secret".repeat(20_000)), 431, shown, "App.example:80"),
        (format!("{start}{}\r\n", "X: secret\r\n".repeat(200)), 431, shown, "App.example:80"),
        (format!("{}\r\n", start.replace("1.1", "1.2")), 400, shown, "App.example:80"),
        (format!("{start}Host: secret\r\nX Y: z\r\n\r\n"), 400, shown, "-"),
        // After the mistake, a field may be a value.
        (get("/a?b").replacen("Host", "X Y: z\r\nHost", 1), 400, "/a?b", "-"),
        (
            "GET http://me:secret@b.example/p HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n".to_owned(),
            400,
            "/p",
            "[redacted]@b.example",
        ),
        ("POST /secret HTTP/1.1 x\r\nHost: secret\r\n\r\n".to_owned(), 400, "-", "-"),
        ("secret\r\nHost: secret\r\n\r\n".to_owned(), 400, "-", "-"),
        // The head is gone when these are found, and what is left is the body.
        (format!("{}GET /secret HTTP/1.1\r\nHost: secret\r\n", get("/?a=<b>")), 400, "-", "-"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\nGET /secret HTTP/1.1\r\n\r\n"
                .to_owned(),
            400,
            "-",
            "-",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {endless}\r\n\r\n\
                 GET /secret HTTP/1.1\r\nHost: secret\r\n\r\n"
            ),
            431,
            "-",
            "-",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {endless}\r\nContent-Length: 5\r\n\r\n\
                 GET /secret HTTP/1.1\r\nHost: secret\r\n\r\n"
            ),
            431,
            "-",
            "-",
        ),
        (
            get("/a").replace("localhost", "ws://h/?token=secret\r\nX Y: z"),
            400,
            "/a",
            "ws://h/?token=[redacted]",
        ),
        ("GET /login?password=a secret\r\nX: y\r\n\r\n".to_owned(), 400, "-", "-"),
    ]
}

// Requirements: RL48, UH37.
#[tokio::test]
async fn records_name_status_target_and_host() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    let cases = cases();
    let count = cases.len();
    for (n, (sent, status, target, host)) in cases.into_iter().enumerate() {
        let mut stream = BufReader::new(client.connect_plain().await);
        // The proxy may close before it has read everything.
        let _ = stream.write_all(sent.as_bytes()).await;
        assert_eq!(read_response(&mut stream).await.status, status, "{sent:.60}");
        drop(stream);
        let record = proxy.nth_end_record(n + 1).await;
        let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
        assert_eq!((&record["status"], text("end")), (&status.into(), "head_invalid".into()));
        assert_eq!([text("target"), text("host")], [target, host], "{record}");
        assert!(!record.to_string().contains("secret"), "{record}");
    }
    // No response, and therefore no status.
    let mut stream = client.connect_plain().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"");
    let record = proxy.nth_end_record(count + 1).await;
    assert_eq!([&record["status"], &record["target"], &record["host"]], [&Value::Null; 3]);
}
