//! Compressed messages (RFC 7692): limited by their decompressed size, in bounded memory, and
//! otherwise relayed unchanged. The compressor stands in for the clients.

use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use crate::support::{
    Backend, Client, CounterCheck, HANDSHAKE, MockBackend, PlainStream, Proxy, RawResponse, Side,
    TestBed, assert_relays, close_after_violation, close_normally, read_head, read_response,
    read_to_end, route, switching_protocols, wire, within_timeout,
};

const TEXT: u8 = 0xc1;
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
const LIMIT: usize = 64 * 1024;
const LIMITS: &str = "[limits]\nmessage_from_client = \"64KiB\"\nclose_grace = \"200ms\"\n";

/// Compresses a message as an endpoint does (RFC 7692 7.2.1), with an empty window.
fn deflated(message: &[u8]) -> Vec<u8> {
    deflated_next(&mut Compress::new(Compression::best(), false), message)
}

/// Compresses the next message of an endpoint that keeps its window.
fn deflated_next(compressor: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 1024);
    compressor.compress_vec(message, &mut bytes, FlushCompress::Sync).unwrap();
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]), "all of it");
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// Starts a proxy with a backend that accepts compression if it is offered.
async fn bed(more: &str) -> TestBed {
    let lines = if more.contains("\"strip\"") { "" } else { DEFLATE };
    TestBed::with_backend(MockBackend::with(lines).await, more).await
}

/// Opens a tunnel for a client that offers compression; also returns the response.
async fn open(bed: &TestBed) -> (PlainStream, PlainStream, RawResponse) {
    open_with(bed, DEFLATE).await
}

async fn open_with(bed: &TestBed, offer: &str) -> (PlainStream, PlainStream, RawResponse) {
    let offer = HANDSHAKE.replacen("\r\n", &format!("\r\n{offer}"), 1);
    let mut client = BufReader::new(bed.client.connect_plain().await);
    client.write_all(offer.as_bytes()).await.unwrap();
    let response = read_response(&mut client).await;
    assert_eq!(response.status, 101, "{response:?}");
    (client, bed.backend.accept().await, response)
}

async fn passes(client: &mut PlainStream, backend: &mut PlainStream, sent: &[u8]) {
    client.write_all(sent).await.unwrap();
    let mut got = vec![0; sent.len()];
    within_timeout("a valid message", backend.read_exact(&mut got)).await.unwrap();
    assert!(got == sent, "as it came");
}

/// Splits a message into frames of this size, with a ping after each but the last.
fn fragments(message: &[u8], size: usize) -> Vec<u8> {
    let last = message.len().div_ceil(size) - 1;
    let frames = message.chunks(size).enumerate().map(|(at, piece)| {
        let first = if at == 0 { 0x41 } else { 0 } | if at == last { 0x80 } else { 0 };
        let ping = if at % 100 == 5 { wire::masked(0x89, b"between") } else { vec![] };
        [wire::masked(first, piece), if at == last { vec![] } else { ping }].concat()
    });
    frames.collect::<Vec<_>>().concat()
}

// Requirements: FC33.
#[tokio::test]
async fn bomb_stops_one_byte_over_the_limit() {
    let bed = bed(LIMITS).await;
    for (session, (fits, crosses)) in (1..).zip([
        (
            wire::masked(TEXT, &deflated(&[0; LIMIT])),
            wire::masked(TEXT, &deflated(&[0; LIMIT + 1])),
        ),
        (fragments(&deflated(&[b'a'; LIMIT]), 7), fragments(&deflated(&[b'a'; LIMIT + 1]), 7)),
        (
            wire::masked(TEXT, &deflated(b"hello")),
            wire::masked(TEXT, &deflated(&vec![b'b'; 4 << 20])),
        ),
    ]) {
        let (mut client, mut backend, response) = open(&bed).await;
        assert_eq!(response.header("sec-websocket-extensions"), Some("permessage-deflate"));
        passes(&mut client, &mut backend, &fits).await;
        client.write_all(&crosses).await.unwrap();
        // A rejected message is never completed.
        while let Some(frame) = wire::read(&mut backend).await {
            assert!(frame.opcode() >= wire::CLOSE || frame.first & 0x80 == 0, "{frame:?}");
            if frame.opcode() == wire::CLOSE {
                break;
            }
        }
        drop(backend);
        let close = wire::read(&mut client).await.unwrap();
        let words = &b"message too big once decompressed"[..];
        assert_eq!((close.code(), &close.payload[2..]), (1009, words));
        drop(client);
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["decompressed_too_big", "client"]);
        assert_eq!([&record["key"], &record["value"]], ["limits.message_from_client", "64KiB"]);
        // What had been decompressed by then: as a rule less than the whole.
        let whole = if session == 3 { 4 << 20 } else { LIMIT as u64 + 1 };
        let size = record["size"].as_u64().unwrap();
        assert!((LIMIT as u64 + 1..=whole).contains(&size), "{record}");
        assert_eq!(record["close_client"], 1009);
        assert!([json!(null), json!(1001)].contains(&record["close_backend"]), "{record}");
        assert_eq!((&record["up_messages"], &record["up_compressed"]), (&json!(1), &json!(1)));
    }
}

// Requirements: FC33.
#[tokio::test]
async fn many_bombs_use_little_memory() {
    let bed = bed(LIMITS).await;
    // Long on the wire before it expands; each of them is held in the middle of that.
    let mut bomb: Vec<u8> = noise().take(LIMIT * 3 / 4).collect();
    bomb.resize(4 << 20, 0);
    let bomb = wire::masked(TEXT, &deflated(&bomb));
    let (held, rest) = bomb.split_at(LIMIT / 2);
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        let (mut client, mut backend, _) = open(&bed).await;
        assert_relays(&mut client, &mut backend).await;
        tunnels.push((client, backend));
    }
    let (before, _) = bed.proxy.memory_and_descriptors();
    let mut most = before;
    for (client, backend) in &mut tunnels {
        passes(client, backend, held).await;
        most = most.max(bed.proxy.memory_and_descriptors().0);
    }
    let mut close = JoinSet::new();
    for (mut client, mut backend) in tunnels {
        let rest = rest.to_vec();
        close.spawn(async move {
            client.write_all(&rest).await.unwrap();
            // It would be closed first if it disconnected before.
            while backend.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {}
            drop(backend);
            wire::read(&mut client).await.unwrap().code()
        });
    }
    assert_eq!(close.join_all().await, [1009; 50]);
    let most = most.max(bed.proxy.memory_and_descriptors().0);
    assert!(most < before + 50 * 16 + 2048, "{before} to {most} KiB for 50 bombs");
    bed.proxy.wait_until_idle().await;
}

/// Incompressible bytes (xorshift).
fn noise() -> impl Iterator<Item = u8> {
    std::iter::successors(Some(0x9e37_79b9_u32), |n| {
        let n = n ^ (n << 13);
        let n = n ^ (n >> 17);
        Some(n ^ (n << 5))
    })
    .map(|n| n as u8)
}

// Requirements: FC34.
#[tokio::test]
async fn invalid_data_closes_with_1007() {
    let bed = bed(LIMITS).await;
    let garbage = [vec![0xff; 200], noise().take(3000).map(|byte| byte | 6).collect()];
    let mut sent: Vec<Vec<u8>> = garbage.iter().map(|g| wire::masked(TEXT, g)).collect();
    sent.push(fragments(&garbage[0], 1));
    // The next message would continue this stored block of 16 bytes.
    sent.push(wire::masked(TEXT, &[0x00, 0x10, 0x00, 0xef, 0xff, 1]));
    for (session, garbage) in (1..).zip(sent) {
        let (mut client, mut backend, _) = open(&bed).await;
        passes(&mut client, &mut backend, &wire::masked(TEXT, &deflated(b"valid"))).await;
        client.write_all(&garbage).await.unwrap();
        while let Some(frame) = wire::read(&mut backend).await {
            if frame.opcode() == wire::CLOSE {
                break;
            }
        }
        drop(backend);
        assert_eq!(wire::read(&mut client).await.unwrap().code(), 1007);
        drop(client);
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["ws_inflate", "client"]);
        assert_eq!([&record["key"], &record["value"]], ["route.compression", "inspect"]);
        assert_eq!((&record["close_client"], &record["up_messages"]), (&json!(1007), &json!(1)));
    }
}

#[tokio::test]
async fn chat_messages_pass_unchanged_both_ways() {
    let bed = bed("").await;
    let (mut client, mut backend, _) = open(&bed).await;
    let mut chat = Vec::new();
    for n in 0..50 {
        chat.extend(wire::masked(TEXT, &deflated(format!("hello {n}, how are you?").as_bytes())));
        chat.extend(wire::masked(0x81, b"not compressed"));
    }
    passes(&mut client, &mut backend, &chat).await;
    let large: Vec<u8> = noise().take(300_000).collect();
    passes(&mut client, &mut backend, &wire::masked(TEXT, &deflated(&large))).await;
    passes(&mut client, &mut backend, &fragments(&deflated(&large), 10_000)).await;
    // Messages of the backend have no limit, so their content is not examined.
    let down = [wire::unmasked(TEXT, &[0xff; 3000]), wire::unmasked(0x81, b"plain")].concat();
    passes(&mut backend, &mut client, &down).await;
    close_normally(client, backend).await;
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["up_messages"], &record["up_compressed"]], [102, 52]);
    assert_eq!([&record["down_messages"], &record["down_compressed"]], [2, 1]);
}

#[tokio::test]
async fn messages_without_an_empty_block_pass() {
    let bed = bed(LIMITS).await;
    let (mut client, mut backend, _) = open(&bed).await;
    // Whole streams, as from `deflateRawSync` of Node, and an empty payload.
    let mut stream = Vec::with_capacity(1024);
    let mut compressor = Compress::new(Compression::best(), false);
    compressor.compress_vec(b"hello", &mut stream, FlushCompress::Finish).unwrap();
    for payload in [&stream[..], &stream, &deflated(b"hello"), &[], &stream] {
        passes(&mut client, &mut backend, &wire::masked(TEXT, payload)).await;
    }
    // Some receivers would read the rest of the last message in this zero byte.
    client.write_all(&wire::masked(TEXT, &[0x00])).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1007);
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["up_messages"], 5);
}

/// Twenty lines of 66 bytes, as frames of one side that keeps its window.
fn chat_lines(frame: impl Fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::best(), false);
    let line = |n| {
        format!(
            "{n:>2} {{\"user\":\"kim\",\"room\":\"harbour\",\"text\":\"the high tides at {n:>4}\"}}"
        )
    };
    let frames = (0..20).map(|n| {
        assert_eq!(line(n).len(), 66);
        frame(TEXT, &deflated_next(&mut compressor, line(n).as_bytes()))
    });
    frames.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn chat_lines_share_a_window_both_ways() {
    let bed =
        bed("[limits]\nmessage_from_client = \"66B\"\nmessage_from_backend = \"66B\"\n").await;
    let (mut client, mut backend, response) = open(&bed).await;
    assert_eq!(response.header("sec-websocket-extensions"), Some("permessage-deflate"));
    let (up, down) = (chat_lines(wire::masked), chat_lines(wire::unmasked));
    assert!(up.len() < 20 * 66 / 3, "{}", up.len());
    passes(&mut client, &mut backend, &up).await;
    passes(&mut backend, &mut client, &down).await;
    close_normally(client, backend).await;
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["up_compressed"], &record["down_compressed"]], [20, 20]);
    // Not a byte more than without the proxy; and the Close frames.
    let bytes = [up.len() + 8, down.len() + 4];
    assert_eq!([&record["up_bytes"], &record["down_bytes"]], bytes);
}

// Requirements: F31.
#[tokio::test]
async fn negotiated_parameters_pass_unchanged() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; \
                 server_max_window_bits=12, permessage-deflate\r\n";
    let value = |line: &'static str| line.split_once(": ").unwrap().1.trim_end();
    for answer in [
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9; \
         client_max_window_bits=10\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
         server_max_window_bits=12\r\n",
    ] {
        let bed = TestBed::with_backend(MockBackend::with(answer).await, LIMITS).await;
        let (mut client, mut backend, response) = open_with(&bed, offer).await;
        assert_eq!(response.header("sec-websocket-extensions"), Some(value(answer)));
        let offered = value(offer);
        assert!(bed.backend.last_head().contains(offered), "{}", bed.backend.last_head());
        passes(&mut client, &mut backend, &wire::masked(TEXT, &deflated(b"hello"))).await;
        close_normally(client, backend).await;
    }
}

// Requirements: FC33.
#[tokio::test]
async fn bomb_of_the_backend_stops_at_its_limit() {
    let limits = "[limits]\nmessage_from_backend = \"64KiB\"\nclose_grace = \"200ms\"\n";
    let bed = bed(limits).await;
    let (mut client, mut backend, _) = open(&bed).await;
    let mut compressor = Compress::new(Compression::best(), false);
    for message in [&b"hello"[..], &[0; LIMIT], b"hello again"] {
        let payload = deflated_next(&mut compressor, message);
        passes(&mut backend, &mut client, &wire::unmasked(TEXT, &payload)).await;
    }
    let bomb = deflated_next(&mut compressor, &[0; LIMIT + 1]);
    backend.write_all(&wire::unmasked(TEXT, &bomb)).await.unwrap();
    // Nothing of the message arrives.
    let closes = close_after_violation(Side::Backend, &mut backend, &mut client).await;
    assert_eq!((closes.0.code(), closes.1.code()), (1009, 1013));
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["end"], &record["by"]], ["decompressed_too_big", "backend"]);
    assert_eq!([&record["key"], &record["value"]], ["limits.message_from_backend", "64KiB"]);
    assert_eq!((&record["close_backend"], &record["down_messages"]), (&json!(1009), &json!(3)));
}

// Requirements: FC33, FC34.
#[tokio::test]
async fn pass_mode_limits_compressed_size() {
    let bed = bed(&format!("compression = \"pass\"\n{LIMITS}")).await;
    let (mut client, mut backend, response) = open(&bed).await;
    assert_eq!(response.header("sec-websocket-extensions"), Some("permessage-deflate"));
    passes(&mut client, &mut backend, &wire::masked(TEXT, &deflated(&vec![0; 2 << 20]))).await;
    passes(&mut client, &mut backend, &wire::masked(TEXT, &[0xff; LIMIT])).await;
    client.write_all(&wire::masked(TEXT, &[0xff; LIMIT + 1])).await.unwrap();
    let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!(close.code(), 1009);
    drop((client, backend));
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["size"]), (&json!("message_too_big"), &json!(LIMIT + 1)));
}

// Requirements: FC02, FC33.
#[tokio::test]
async fn strip_mode_prevents_compression() {
    let bed = bed("compression = \"strip\"\n").await;
    let (mut client, mut backend, response) = open(&bed).await;
    assert_eq!(response.header("sec-websocket-extensions"), None);
    assert!(!bed.backend.last_head().contains("permessage"), "{}", bed.backend.last_head());
    client.write_all(&wire::masked(TEXT, &deflated(b"all the same"))).await.unwrap();
    let closes = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!((closes.0.code(), closes.1.code()), (1002, 1001));
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["end"], "ws_rsv");
}

// Requirements: FC33, FC34.
#[tokio::test]
async fn report_mode_lets_both_pass() {
    let limits = "strict = \"report\"\n[limits]\n\
                  message_from_client = { max = \"64KiB\", action = \"report\" }\n";
    let bed = bed(limits).await;
    let (mut client, mut backend, _) = open(&bed).await;
    for _ in 0..2 {
        let bomb = deflated(&vec![0; 1 << 20]);
        passes(&mut client, &mut backend, &wire::masked(TEXT, &bomb)).await;
        passes(&mut client, &mut backend, &fragments(&bomb, 50)).await;
        passes(&mut client, &mut backend, &wire::masked(TEXT, &[0xff; 500])).await;
    }
    close_normally(client, backend).await;
    let record = bed.tunnel_end(1).await;
    assert_eq!(record["would_close_client"], json!(["decompressed_too_big", "ws_inflate"]));
    let size = record["would_close_client_size"].as_u64().unwrap();
    assert!((LIMIT as u64 + 1..=1 << 20).contains(&size), "{record}");
    assert_eq!(record["up_messages"], 6);
}

#[tokio::test]
async fn compression_errors_are_counted() {
    let backend = Backend::raw(|head, mut stream, _| async move {
        let yes = switching_protocols(&head).replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n",
        );
        stream.write_all(yes.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let limits = "[limits]\nmessage_from_client = \"100KiB\"\n";
    let proxy = Proxy::start(&route(&[backend.address], limits)).await;
    let client = Client::new(&proxy).await;
    let mut counters = CounterCheck::new(&proxy).await;
    let offer = "13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    for (payload, wanted) in [
        (deflated(&[b'a'; 200 * 1024]), "client decompressed_too_big all"),
        (vec![0xff; 40_000], "client ws_inflate all"),
    ] {
        let mut stream = BufReader::new(client.connect_plain().await);
        stream.write_all(HANDSHAKE.replace("13\r\n\r\n", offer).as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.contains("permessage-deflate"));
        let valid = wire::masked(0xc1, &deflated(&[b'a'; 1000]));
        stream.write_all(&[valid, wire::masked(0xc2, &payload)].concat()).await.unwrap();
        read_to_end(&mut stream).await;
        drop(stream);
        counters.expect_one(wanted).await;
    }
    let scrape = counters.finish().await;
    let of = [("route", "all"), ("direction", "up")];
    assert_eq!(scrape.value("tidegate_messages_compressed_total", &of), 2.0);
}
