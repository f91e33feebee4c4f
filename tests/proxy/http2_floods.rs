//! Misuse of HTTP/2: each ends its own connection, or stream, with the right code, and no other.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::sleep;

use crate::support::http2::{
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR, GET, GOAWAY, HEADERS, Http2Client, PING, PRIORITY, PROTOCOL_ERROR,
    RST_STREAM, RawHttp2, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, fields, frame, get_frame,
    http2_proxy,
};
use crate::support::{Backend, Client, Proxy, Record, route, within_timeout};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy, and a connection that must not notice what happens on others.
struct FloodTest {
    proxy: Proxy,
    client: Client,
    neighbour: Http2Client,
    _backend: Backend,
}

impl FloodTest {
    async fn new() -> Self {
        let backend = Backend::app(OK).await;
        let proxy = http2_proxy(&route(&[backend.address], "")).await;
        let client = Client::new(&proxy).await;
        let neighbour = Http2Client::connect(&client).await;
        Self { proxy, client, neighbour, _backend: backend }
    }

    /// Writes up to 3,000 pieces on a new connection; each must be enough to end it with this code.
    async fn ends(&mut self, code: u32, end: &str, mut piece: impl FnMut(u32) -> Vec<u8>) {
        let raw = RawHttp2::connect(&self.client).await;
        let found = raw.flood(|round| match round {
            0..3000 => ControlFlow::Continue(piece(round)),
            _ => ControlFlow::Break(()),
        });
        assert_eq!(found.await, Some(code), "{end}");
        let record = self.proxy.end_record(end).await;
        assert_eq!((&record["event"], &record["protocol"]), (&"dropped".into(), &"h2".into()));
        self.assert_neighbour_is_served().await;
    }

    async fn assert_neighbour_is_served(&mut self) {
        assert_eq!(self.neighbour.get("/").await.1, b"ok");
    }

    async fn finish(self) {
        drop(self.neighbour);
        self.proxy.wait_until_idle().await;
    }
}

// Requirements: H201, E19.
#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let mut test = FloodTest::new().await;
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let request = |n| [get_frame(2 * n + 1, &[]), reset(2 * n + 1)].concat();
    test.ends(ENHANCE_YOUR_CALM, "http2_flood", |n| {
        (100 * n..100 * (n + 1)).flat_map(request).collect()
    })
    .await;
    test.finish().await;
}

// Requirements: H203, E19.
#[tokio::test]
async fn continuation_flood_ends_the_connection() {
    let mut test = FloodTest::new().await;
    test.ends(ENHANCE_YOUR_CALM, "http2_flood", |n| match n {
        0 => frame(HEADERS, 0, 1, &fields(&GET)),
        _ => frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(200))])),
    })
    .await;
    test.finish().await;
}

// Requirements: H207, H208, H211, E19.
#[tokio::test]
async fn floods_of_control_frames_end_the_connection() {
    for piece in [
        frame(PING, 0, 0, &[0; 8]),
        frame(PING, 1, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15]),
        frame(0xbe, 0, 1, b"unknown"),
    ] {
        let mut test = FloodTest::new().await;
        test.ends(ENHANCE_YOUR_CALM, "http2_flood", |_| piece.clone()).await;
        test.finish().await;
    }
}

// Requirements: H232, E19.
#[tokio::test]
async fn flood_of_heads_for_a_reset_stream_ends_the_connection() {
    let mut test = FloodTest::new().await;
    let malformed = fields(&[&GET[..], &[("connection", "x")]].concat());
    test.ends(ENHANCE_YOUR_CALM, "http2_flood", |n| match n {
        // Reset by the proxy, after which the library ignores what still comes for it.
        0 => frame(HEADERS, END_HEADERS, 1, &malformed),
        _ => frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "y")])),
    })
    .await;
    test.finish().await;
}

// Requirements: H209, E19.
#[tokio::test]
async fn flood_of_window_updates_ends_the_connection() {
    let mut test = FloodTest::new().await;
    let update = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    test.ends(ENHANCE_YOUR_CALM, "http2_flood", |_| update.repeat(10)).await;
    let overflow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    let mut raw = RawHttp2::connect(&test.client).await;
    raw.write(&overflow.repeat(2)).await;
    assert_eq!(raw.goaway_code().await, Some(FLOW_CONTROL_ERROR));
    test.assert_neighbour_is_served().await;
    test.finish().await;
}

// Requirements: H210, E19.
#[tokio::test]
async fn flood_of_empty_data_ends_the_connection() {
    let mut test = FloodTest::new().await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3]];
    test.ends(ENHANCE_YOUR_CALM, "http2_flood", |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &fields(&post)),
        _ => frame(DATA, 0, 1, b""),
    })
    .await;
    test.finish().await;
}

// Requirements: H202.
#[tokio::test]
async fn errors_of_many_streams_end_the_connection() {
    // A window that overflows, and a stream that depends on itself (CVE-2025-8671).
    for provoke in [
        |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
        |stream: u32| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[15]].concat()),
    ] {
        let mut test = FloodTest::new().await;
        test.ends(ENHANCE_YOUR_CALM, "http2_flood", |n| {
            [get_frame(2 * n + 1, &[]), provoke(2 * n + 1)].concat()
        })
        .await;
        test.finish().await;
    }
}

/// A head with this many fields: one in the dynamic table, then references to it (RFC 7541 6.1), which are
/// little to send and much to keep.
fn bomb(fields_max: usize) -> Vec<u8> {
    let define = [&[0x40][..], &fields(&[("x-bomb", &"b".repeat(100))])[1..]].concat();
    [fields(&GET), define, vec![0x80 | 62; fields_max]].concat()
}

// Requirements: H204.
#[tokio::test]
async fn large_heads_are_answered_or_end_the_connection() {
    let mut test = FloodTest::new().await;
    let mut raw = RawHttp2::connect(&test.client).await;
    let head = |stream, fields| frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb(fields));
    // Too many fields for the proxy, or too many bytes.
    for (stream, fields) in [(1, 120), (3, 310)] {
        raw.write(&head(stream, fields)).await;
        // The response has a body.
        assert_eq!(raw.read_until(HEADERS, stream).await.flags & END_STREAM, 0);
        let too_large = |record: &Record| record["end"] == "head_too_large";
        let record = test.proxy.nth_record("a 431", (stream as usize).div_ceil(2), too_large).await;
        assert_eq!(record["status"], 431);
    }
    // Too large for the library.
    raw.write(&head(5, 330)).await;
    assert_ne!(raw.read_until(HEADERS, 5).await.flags & END_STREAM, 0);
    // Counted once the response is written, which the client may see before.
    let counted = async {
        loop {
            let scrape = test.proxy.scrape().await;
            let refused = scrape.value("tidegate_http2_heads_refused_total", &[]);
            if refused > 0.0 {
                break refused;
            }
        }
    };
    assert_eq!(within_timeout("the count", counted).await, 1.0);
    // Beyond all reason.
    raw.write(&head(7, 10_000)).await;
    assert_eq!(raw.goaway_code().await, Some(ENHANCE_YOUR_CALM));
    test.assert_neighbour_is_served().await;
    test.finish().await;
}

// Requirements: H204.
#[tokio::test]
async fn flood_of_large_heads_ends_the_connection() {
    let mut test = FloodTest::new().await;
    let mut raw = RawHttp2::connect(&test.client).await;
    // A connection without any request would end earlier, for that reason.
    raw.write(&get_frame(1, &[])).await;
    raw.read_until(HEADERS, 1).await;
    let block = bomb(1000);
    let head = |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 3, &block);
    let mut refused = 0;
    let code = 'connection: loop {
        // Fewer than the limit of streams.
        let batch: Vec<u8> = (refused..refused + 50).flat_map(head).collect();
        raw.write(&batch).await;
        for _ in 0..50 {
            match raw.read_first(&[HEADERS, GOAWAY]).await {
                Some(frame) if frame.kind == GOAWAY => break 'connection frame.payload[7],
                Some(_) => refused += 1,
                None => panic!("closed without GOAWAY"),
            }
        }
        assert!(refused < 3000);
    };
    assert_eq!(u32::from(code), ENHANCE_YOUR_CALM);
    let record = test.proxy.end_record("http2_flood").await;
    assert_eq!(record["detail"], "too many request heads that are too large or malformed");
    test.assert_neighbour_is_served().await;
    test.finish().await;
}

#[tokio::test]
async fn flood_is_recorded_after_its_listener_was_removed() {
    let mut test = FloodTest::new().await;
    let mut raw = RawHttp2::connect(&test.client).await;
    raw.write(&get_frame(1, &[])).await;
    raw.read_until(HEADERS, 1).await;
    let listener = "name = \"tls\"\naddress = \"127.0.0.";
    test.proxy.reload_with(&format!("{listener}1"), &format!("{listener}2")).await;
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(300);
    let code = raw.flood(|round| match round {
        0 => ControlFlow::Continue(pings.clone()),
        _ => ControlFlow::Break(()),
    });
    assert_eq!(code.await, Some(ENHANCE_YOUR_CALM));
    assert_eq!(test.proxy.end_record("http2_flood").await["listener"], "tls");
    test.assert_neighbour_is_served().await;
    test.finish().await;
}

// Requirements: H213, H214.
#[tokio::test]
async fn violations_of_the_connection_end_it() {
    let mut test = FloodTest::new().await;
    let head = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let settings = |id: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    for (sent, codes) in [
        ([get_frame(3, &[]), get_frame(1, &[])].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED][..]),
        (get_frame(2, &[]), &[PROTOCOL_ERROR]),
        (get_frame(0, &[]), &[PROTOCOL_ERROR]),
        // Index 0, an index beyond the tables, and a table of 2^32 bytes.
        (head(&[0x80]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        (head(&[0xff, 0xff, 0x7f]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        (head(&[0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f]), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        // A Huffman code that does not end.
        (head(&[0x40, 0x81, 0xff, 1, b'a']), &[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        (settings(4, 0x8000_0000), &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        (settings(5, 1), &[PROTOCOL_ERROR]),
        (frame(DATA, 0, 1, b"idle"), &[PROTOCOL_ERROR]),
        (frame(RST_STREAM, 0, 1, &[0; 4]), &[PROTOCOL_ERROR]),
        (frame(CONTINUATION, END_HEADERS, 1, &fields(&GET)), &[PROTOCOL_ERROR]),
        (frame(PING, 0, 1, &[0; 8]), &[PROTOCOL_ERROR]),
    ] {
        let mut raw = RawHttp2::connect(&test.client).await;
        raw.write(&sent).await;
        let code = raw.goaway_code().await;
        assert!(code.is_some_and(|code| codes.contains(&code)), "{sent:?}: {code:?}");
        test.assert_neighbour_is_served().await;
    }
    test.finish().await;
}

// Requirements: E11, H215, H217.
#[tokio::test]
async fn invalid_fields_end_the_connection() {
    let mut test = FloodTest::new().await;
    for field in [
        ("X-Upper", "a"),
        ("x", "a\r\nb"),
        ("x", "a\0b"),
        ("x y", "a"),
        ("", "a"),
        (":unknown", "a"),
    ] {
        let mut raw = RawHttp2::connect(&test.client).await;
        raw.write(&get_frame(1, &[field])).await;
        let code = raw.goaway_code().await;
        assert!(matches!(code, Some(PROTOCOL_ERROR | COMPRESSION_ERROR)), "{field:?}: {code:?}");
        test.assert_neighbour_is_served().await;
    }
    test.finish().await;
}

// Requirements: E2, E5, E12, E16, H217, H219, H222.
#[tokio::test]
async fn malformed_heads_reset_their_stream() {
    let test = FloodTest::new().await;
    let mut raw = RawHttp2::connect(&test.client).await;
    let connect = [(":method", "CONNECT"), (":protocol", "websocket")];
    let mut stream = 1;
    for block in [
        fields(&GET[1..]),
        fields(&[GET[0], GET[2], GET[3]]),
        fields(&[&GET[..], &[(":path", "/")]].concat()),
        fields(&[&GET[..], &[("x", "y"), (":path", "/")]].concat()),
        fields(&[&GET[..], &[(":protocol", "websocket")]].concat()),
        fields(&[&connect[..], &GET[1..3]].concat()),
        fields(&[&GET[..], &[("connection", "upgrade")]].concat()),
        fields(&[&GET[..], &[("upgrade", "websocket")]].concat()),
        fields(&[&GET[..], &[("transfer-encoding", "chunked")]].concat()),
        fields(&[&GET[..], &[("te", "gzip")]].concat()),
        fields(&[GET[0], GET[1], GET[2], (":path", "")]),
        fields(&[GET[0], GET[1], GET[2], (":path", "/a b")]),
        fields(&[GET[0], GET[1], GET[2], (":path", "a")]),
        fields(&[&GET[..], &[("content-length", "5")]].concat()),
    ] {
        raw.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).await;
        assert_eq!(raw.reset_code(stream).await, PROTOCOL_ERROR, "{block:?}");
        stream += 2;
    }
    raw.write(&get_frame(stream, &[])).await;
    raw.read_until(HEADERS, stream).await;
    drop(raw);
    test.finish().await;
}

// Requirements: H206.
#[tokio::test]
async fn client_that_permits_no_byte_is_given_up() {
    let body = "x".repeat(100_000);
    let backend =
        Backend::app(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{body}")).await;
    let routes = route(&[backend.address], "");
    let proxy = http2_proxy(&format!("[timeouts]\nidle = \"400ms\"\n{routes}")).await;
    let client = Client::new(&proxy).await;
    let mut raw = RawHttp2::connect(&client).await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.write(&[no_window, get_frame(1, &[])].concat()).await;
    raw.read_until(HEADERS, 1).await;
    assert_eq!(raw.reset_code(1).await, 8, "CANCEL");
    let record = proxy.record("the request", |record| record["event"] == "served").await;
    assert_eq!(record["end"], "client_disconnected");
    // The connection is still good.
    raw.write(&get_frame(3, &[])).await;
    raw.read_until(HEADERS, 3).await;
}

// Requirements: H206.
#[tokio::test]
async fn client_that_permits_single_bytes_is_given_up() {
    let body = "x".repeat(1000);
    let backend =
        Backend::app(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}")).await;
    let routes = route(&[backend.address], "");
    let proxy = http2_proxy(&format!("[timeouts]\nidle = \"400ms\"\n{routes}")).await;
    let mut raw = RawHttp2::connect(&Client::new(&proxy).await).await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.write(&[no_window, get_frame(1, &[])].concat()).await;
    raw.read_until(HEADERS, 1).await;
    let credit = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    for _ in 0..100 {
        raw.write(&credit).await;
        if raw.read_first(&[DATA, RST_STREAM]).await.unwrap().kind == RST_STREAM {
            return;
        }
        sleep(Duration::from_millis(40)).await;
    }
    panic!("the stream was not reset");
}

/// A client that resets its streams after they have ended must not end others.
#[tokio::test]
async fn reset_after_the_end_is_ignored() {
    let test = FloodTest::new().await;
    let mut raw = RawHttp2::connect(&test.client).await;
    for stream in (1..100).step_by(2) {
        raw.write(&get_frame(stream, &[])).await;
        let mut ended = false;
        while !ended {
            let frame = within_timeout("a frame", raw.read()).await.unwrap();
            ended = frame.stream == stream && frame.flags & END_STREAM != 0;
        }
        raw.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
    }
    drop(raw);
    test.finish().await;
}
