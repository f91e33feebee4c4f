//! Connections to backends that carry several plain requests: when they are used again, when a request is
//! repeated, and how they end.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::head::get;
use crate::support::{
    Backend, BackendEvent, Client, Proxy, RawResponse, exchange, read_body, read_head, route,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A backend that keeps its connections open. For each request it reports `CONNECTION:TARGET`, where connections
/// are counted from 1, and sends what `answer` returns for the target and for the number of the request
/// on its connection. `None` closes the connection without an answer. The end of a connection is
/// reported as `CONNECTION:end` or, if it was reset, as `CONNECTION:reset`.
async fn backend(answer: fn(&str, usize) -> Option<&'static str>) -> Backend {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Backend::raw(move |head, mut stream, events| {
        let connection = connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let report = move |what: &str| {
            let _ = events.send(BackendEvent::Bytes(format!("{connection}:{what}").into_bytes()));
        };
        async move {
            let mut asked = RawResponse { status: 0, head };
            for number in 1.. {
                if asked.header("content-length").is_some() {
                    read_body(&mut stream, &asked).await;
                }
                let target = asked.head.split(' ').nth(1).unwrap().to_owned();
                report(&target);
                let Some(answer) = answer(&target, number) else { return };
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut first = [0];
                match stream.read(&mut first).await {
                    Ok(0) => return report("end"),
                    Err(_) => return report("reset"),
                    Ok(_) => {}
                }
                let head = format!("{}{}", char::from(first[0]), read_head(&mut stream).await);
                asked = RawResponse { status: 0, head };
            }
        }
    })
    .await
}

/// What the backend reports next.
async fn report(backend: &Backend) -> String {
    String::from_utf8(backend.bytes().await).unwrap()
}

/// Sends requests to a proxy, one after the other.
struct Requests {
    proxy: Proxy,
    stream: BufReader<TcpStream>,
}

impl Requests {
    async fn new(backend: &Backend, more: &str) -> Self {
        let proxy = Proxy::start(&route(&[backend.address], more)).await;
        let stream = BufReader::new(Client::new(&proxy).await.connect_plain().await);
        Self { proxy, stream }
    }

    async fn get(&mut self, target: &str) -> (u16, Vec<u8>) {
        let (response, body) = exchange(&mut self.stream, &get(target)).await;
        (response.status, body)
    }

    /// Sends a request that must not be repeated.
    async fn post(&mut self, target: &str) -> u16 {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi");
        exchange(&mut self.stream, &request).await.0.status
    }
}

#[tokio::test]
async fn requests_of_all_clients_share_connections() {
    let backend = backend(|_, _| Some(OK)).await;
    let mut first = Requests::new(&backend, "").await;
    assert_eq!(first.get("/1").await, (200, b"ok".to_vec()));
    let mut stream = BufReader::new(Client::new(&first.proxy).await.connect_tls().await);
    assert_eq!(exchange(&mut stream, &get("/2")).await.1, b"ok");
    assert_eq!(first.post("/3").await, 200);
    for expected in ["1:/1", "1:/2", "1:/3"] {
        assert_eq!(report(&backend).await, expected);
    }
    let [head] = backend.heads().try_into().unwrap();
    assert!(!head.to_lowercase().contains("connection:"), "{head}");
    let scrape = first.proxy.scrape().await;
    assert_eq!(scrape.value("tidegate_backend_connections_idle", &[]), 1.0);
}

#[tokio::test]
async fn chunked_and_empty_responses_free_the_connection() {
    let backend = backend(|target, _| {
        Some(match target {
            "/chunked" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            }
            "/trailers" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n\
                 2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
            }
            "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\n\r\n",
        })
    })
    .await;
    let mut requests = Requests::new(&backend, "").await;
    for target in ["/chunked", "/trailers", "/none", "/unchanged", "/chunked"] {
        requests.stream.write_all(get(target).as_bytes()).await.unwrap();
        let response = crate::support::read_response(&mut requests.stream).await;
        if response.status == 200 {
            assert_eq!(read_body(&mut requests.stream, &response).await, b"ok");
        }
        assert_eq!(report(&backend).await, format!("1:{target}"));
    }
}

#[tokio::test]
async fn unanswered_get_is_repeated_once() {
    let backend = backend(|target, number| match (target, number) {
        ("/unlucky", 2) | ("/never", _) => None,
        _ => Some(OK),
    })
    .await;
    let mut requests = Requests::new(&backend, "").await;
    assert_eq!(requests.get("/1").await.0, 200);
    assert_eq!(requests.get("/unlucky").await, (200, b"ok".to_vec()));
    for expected in ["1:/1", "1:/unlucky", "2:/unlucky"] {
        assert_eq!(report(&backend).await, expected);
    }
    assert_eq!(requests.get("/never").await.0, 502);
    for expected in ["2:/never", "3:/never"] {
        assert_eq!(report(&backend).await, expected);
    }
}

#[tokio::test]
async fn unanswered_post_is_not_repeated() {
    let backend = backend(|target, _| (target != "/never").then_some(OK)).await;
    let mut requests = Requests::new(&backend, "").await;
    // A second response shows that the backend keeps the connection.
    for target in ["/1", "/2"] {
        assert_eq!(requests.get(target).await.0, 200);
    }
    assert_eq!(requests.post("/never").await, 502);
    // The proxy closes the client's connection after that.
    let mut stream = BufReader::new(Client::new(&requests.proxy).await.connect_plain().await);
    assert_eq!(exchange(&mut stream, &get("/3")).await.0.status, 200);
    for expected in ["1:/1", "1:/2", "1:/never", "2:/3"] {
        assert_eq!(report(&backend).await, expected);
    }
}

#[tokio::test]
async fn incomplete_response_is_not_repeated() {
    let backend = backend(|target, _| {
        Some(if target == "/part" { "HTTP/1.1 200 OK\r\nContent-" } else { OK })
    })
    .await;
    // The backend then waits for a request, until the proxy gives up.
    let mut requests = Requests::new(&backend, "[timeouts]\nidle = \"1s\"\n").await;
    assert_eq!(requests.get("/1").await.0, 200);
    assert_eq!(requests.get("/part").await.0, 504);
    for expected in ["1:/1", "1:/part", "1:reset"] {
        assert_eq!(report(&backend).await, expected);
    }
}

#[tokio::test]
async fn more_than_the_response_ends_the_connection() {
    let backend = backend(|target, _| {
        Some(match target {
            "/more" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
            "/both" => {
                "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nok\r\n0\r\n\r\n"
            }
            "/ntlm" => "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\nok",
            _ => OK,
        })
    })
    .await;
    let mut requests = Requests::new(&backend, "").await;
    for (connection, target) in ["/more", "/both", "/ntlm"].into_iter().enumerate() {
        assert_eq!(requests.get(target).await.1, b"ok");
        let mut reports = [report(&backend).await, report(&backend).await];
        reports.sort();
        let connection = connection + 1;
        assert!(reports[0] == format!("{connection}:{target}"), "{reports:?}");
        assert!(reports[1].starts_with(&format!("{connection}:")), "{reports:?}");
    }
    assert_eq!(requests.get("/4").await, (200, b"ok".to_vec()));
    assert_eq!(report(&backend).await, "4:/4");
}

#[tokio::test]
async fn idle_connection_ends_without_a_reset() {
    let backend = backend(|target, _| {
        Some(match target {
            "/short" => "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok",
            _ => OK,
        })
    })
    .await;
    let mut requests = Requests::new(&backend, "[timeouts]\nbackend_keep_alive = \"1s\"\n").await;
    assert_eq!(requests.get("/1").await.0, 200);
    for expected in ["1:/1", "1:end"] {
        assert_eq!(report(&backend).await, expected);
    }
    requests.proxy.reload_with("= \"1s\"", "= \"1h\"").await;
    assert_eq!(requests.get("/short").await.0, 200);
    for expected in ["2:/short", "2:end"] {
        assert_eq!(report(&backend).await, expected);
    }
}

#[tokio::test]
async fn reload_keeps_connections_and_removal_closes_them() {
    let backend = backend(|_, _| Some(OK)).await;
    let mut requests = Requests::new(&backend, "").await;
    assert_eq!(requests.get("/1").await.0, 200);
    requests.proxy.reload().await;
    assert_eq!(requests.get("/2").await.0, 200);
    let address = backend.address.to_string();
    requests.proxy.reload_with(&address, "127.0.0.1:1").await;
    for expected in ["1:/1", "1:/2", "1:end"] {
        assert_eq!(report(&backend).await, expected);
    }
}

#[tokio::test]
async fn each_request_gets_a_connection_if_turned_off() {
    for more in [
        "[timeouts]\nbackend_keep_alive = \"off\"\n",
        "[route.timeouts]\nbackend_keep_alive = \"off\"\n",
    ] {
        let backend = backend(|_, _| Some(OK)).await;
        let mut requests = Requests::new(&backend, more).await;
        for connection in 1..=2 {
            assert_eq!(requests.get("/").await.0, 200);
            assert_eq!(report(&backend).await, format!("{connection}:/"));
        }
        for head in backend.heads() {
            assert!(head.to_lowercase().contains("\r\nconnection: close\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn cancelled_request_resets_its_connection() {
    let backend = backend(|target, _| {
        Some(if target == "/long" { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" } else { OK })
    })
    .await;
    let mut requests = Requests::new(&backend, "").await;
    assert_eq!(requests.get("/1").await.0, 200);
    let mut leaving = Client::new(&requests.proxy).await.connect_plain().await;
    leaving.write_all(get("/long").as_bytes()).await.unwrap();
    leaving.read_exact(&mut [0; 40]).await.unwrap();
    drop(leaving);
    for expected in ["1:/1", "1:/long", "1:reset"] {
        assert_eq!(report(&backend).await, expected);
    }
    let record =
        requests.proxy.record("a cancelled request", |r| r["end"] == "client_disconnected");
    let record = record.await;
    assert_eq!((&record["event"], &record["by"]), (&"served".into(), &"client".into()));
    assert_eq!((&record["status"], &record["down_bytes"]), (&200.into(), &2.into()));
}

/// A backend that does not read the body of a request that it refuses takes it for the next request.
#[tokio::test]
async fn refused_upload_ends_the_connection() {
    let backend = backend(|target, _| {
        Some(match target {
            "/refused" => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nok",
            _ => OK,
        })
    })
    .await;
    let mut requests = Requests::new(&backend, "").await;
    assert_eq!(requests.post("/refused").await, 404);
    assert_eq!(requests.post("/taken").await, 200);
    assert_eq!(requests.get("/3").await.0, 200);
    let mut reports: Vec<String> = Vec::new();
    for _ in 0..4 {
        reports.push(report(&backend).await);
    }
    reports.sort();
    assert_eq!(reports, ["1:/refused", "1:reset", "2:/3", "2:/taken"]);
}

/// An application with one thread serves the next connection when the one before has ended.
#[tokio::test]
async fn idle_connections_are_given_up_for_waiting_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let application = async {
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    };
    let more = "[timeouts]\nbackend_keep_alive = \"1h\"\n";
    let proxy = Proxy::start(&route(&[address], more)).await;
    let client = Client::new(&proxy).await;
    let requests = join_all((0..4).map(async |_| {
        let mut stream = BufReader::new(client.connect_plain().await);
        exchange(&mut stream, &get("/")).await.0.status
    }));
    tokio::select! {
        statuses = requests => assert_eq!(statuses, [200; 4]),
        () = application => {}
    }
}

/// Applications close idle connections after some seconds, and may do so while a request is on its way.
#[tokio::test]
async fn post_avoids_connections_that_were_idle() {
    let backend = backend(|_, _| Some(OK)).await;
    let mut requests = Requests::new(&backend, "").await;
    for target in ["/1", "/2"] {
        assert_eq!(requests.get(target).await.0, 200);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(requests.post("/3").await, 200);
    for expected in ["1:/1", "1:/2", "2:/3"] {
        assert_eq!(report(&backend).await, expected);
    }
}
