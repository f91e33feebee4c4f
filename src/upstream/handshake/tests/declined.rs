//! Responses other than 101.

use http_body_util::BodyExt as _;

use super::*;
use crate::reject::abort::AbortCause;

async fn body_of(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

// Requirements: W15, BM05.
#[tokio::test]
async fn relays_the_backend_rejection() {
    for status in ["301 Moved", "401 Unauthorized", "403 No", "404 Not Found", "426 Up", "500 Oh"] {
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Length: 4\r\nLocation: /login\r\n\
             WWW-Authenticate: Basic\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nno!\n"
        );
        let Err(UpgradeFailure::Declined(response)) = upgrade_from(&response).await else {
            panic!("{status}")
        };
        assert_eq!(response.status().as_str(), &status[..3]);
        assert_eq!(response.headers()["location"], "/login");
        assert_eq!(response.headers()["www-authenticate"], "Basic");
        assert!(response.headers()["connection"].to_str().unwrap().starts_with("close"));
        assert!(!response.headers().contains_key("x-hop"));
        assert_eq!(response.headers().contains_key("upgrade"), status.starts_with("426"));
        assert_eq!(&body_of(response).await[..], b"no!\n");
    }
}

// Requirements: BM05.
#[tokio::test]
async fn rejection_body_streams_until_the_idle_timeout() {
    let script = async |stream: &mut TcpStream| {
        reply(stream, b"HTTP/1.1 403 No\r\nContent-Length: 200001\r\n\r\n").await;
        stream.write_all(&[b'x'; 200_000]).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    };
    let mut head = opening("");
    let Ok(ValidatedRequest::WebSocket(handshake)) = ValidatedRequest::validate(&head) else {
        panic!()
    };
    let (connection, mut stream) = connected().await;
    let scripted = direct_request();
    let headers = scripted.headers();
    let (mode, idle) = (Compression::Strip, Duration::from_millis(300));
    let client = async {
        let upgrading = upgrade(
            connection,
            &mut head,
            &handshake,
            &headers,
            options(mode, LIMIT, idle),
            &|_| {},
        );
        let Err(UpgradeFailure::Declined(response)) = upgrading.await else { panic!() };
        assert_eq!(response.headers()["content-length"], "200001");
        let (mut body, mut received) = (response.into_body(), 0);
        loop {
            match body.frame().await.unwrap() {
                Ok(frame) => received += frame.data_ref().unwrap().len(),
                Err(error) => return (received, error),
            }
        }
    };
    let ((received, error), ()) = tokio::join!(client, script(&mut stream));
    assert_eq!(received, 200_000);
    assert_eq!(error, AbortCause::BackendIdleTimeout);
}

// Requirements: BM05.
#[tokio::test]
async fn relays_a_success_status() {
    for status in ["200 OK", "204 No Content", "206 Partial Content", "299 X", "600 X", "999 X"] {
        let response =
            format!("HTTP/1.1 {status}\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n");
        let Err(UpgradeFailure::Declined(response)) = upgrade_from(&response).await else {
            panic!("{status}")
        };
        assert_eq!(response.status().as_str(), &status[..3]);
        assert_eq!(response.headers()["connection"], "close");
        assert!(!response.headers().contains_key("upgrade"));
        assert_eq!(&body_of(response).await[..], b"");
    }
}

// Requirements: BM16.
#[tokio::test]
async fn rejects_a_rejection_with_conflicting_framing() {
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!").await;
    assert_bad("HTTP/1.1 403 X\r\nContent-Length: x\r\n\r\nhello!").await;
}
