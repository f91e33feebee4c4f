//! The counters add up for tunnels: each end is counted once, under its own reason and the side
//! that caused it; violations in `report` mode are counted once per tunnel.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::{
    CounterCheck, HANDSHAKE, PlainStream, Side, TestBed, assert_relays, close_after_violation,
    close_normally, read_to_end, reset, wire, within_timeout,
};

type Cause = fn(PlainStream, PlainStream) -> BoxFuture<'static, ()>;

/// The labels of the expected count (initiator, reason, route), and what the endpoints do to cause it.
const ENDS: [(&str, Cause); 9] = [
    ("client client_closed all", |client, backend| close_normally(client, backend).boxed()),
    ("backend backend_closed all", |mut client, mut backend| {
        async move {
            backend.write_all(&wire::unmasked(0x88, &wire::close(1000, ""))).await.unwrap();
            wire::read(&mut client).await.unwrap();
            client.write_all(&wire::masked(0x88, &wire::close(1000, ""))).await.unwrap();
            read_to_end(&mut backend).await;
        }
        .boxed()
    }),
    ("client client_disconnected all", |client, mut backend| {
        async move {
            reset(client);
            wire::read(&mut backend).await.unwrap();
        }
        .boxed()
    }),
    ("backend backend_disconnected all", |mut client, backend| {
        async move {
            reset(backend);
            read_to_end(&mut client).await;
        }
        .boxed()
    }),
    ("client ws_opcode all", |client, backend| from_client(client, backend, b"garbage!".to_vec())),
    ("client message_too_big all", |client, backend| {
        from_client(client, backend, wire::masked(0x82, &[7; 1001]))
    }),
    ("backend ws_masked all", |client, backend| {
        from_backend(client, backend, wire::masked(0x81, b"up or down?"))
    }),
    ("tidegate idle all", |mut client, backend| {
        async move {
            read_close(&mut client).await;
            drop((client, backend));
        }
        .boxed()
    }),
    ("client ws_close all", |client, backend| {
        from_client(client, backend, wire::masked(0x88, &wire::close(1005, "")))
    }),
];

fn from_client(
    mut client: PlainStream,
    mut backend: PlainStream,
    sent: Vec<u8>,
) -> BoxFuture<'static, ()> {
    async move {
        client.write_all(&sent).await.unwrap();
        close_after_violation(Side::Client, &mut client, &mut backend).await;
        drop((client, backend));
    }
    .boxed()
}

fn from_backend(
    mut client: PlainStream,
    mut backend: PlainStream,
    sent: Vec<u8>,
) -> BoxFuture<'static, ()> {
    async move {
        backend.write_all(&sent).await.unwrap();
        close_after_violation(Side::Backend, &mut backend, &mut client).await;
        drop((client, backend));
    }
    .boxed()
}

/// Reads up to the Close. Neither end answers it, so the proxy would wait for the grace period.
async fn read_close(client: &mut PlainStream) {
    assert_eq!(wire::read(client).await.unwrap().opcode(), wire::CLOSE);
}

#[tokio::test]
async fn tunnel_ends_are_counted_once() {
    let limits = "[heartbeat]\ninterval = \"off\"\n[limits]\nmessage_from_client = \"1000B\"\n\
                  idle = \"3s\"\n";
    let bed = TestBed::with(limits).await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    for (wanted, cause) in ENDS {
        let (mut client, mut backend) = bed.open().await;
        assert_relays(&mut client, &mut backend).await;
        let open = bed.proxy.scrape().await;
        assert_eq!(open.sum("tidegate_tunnels", &[]), 1.0);
        within_timeout(wanted, cause(client, backend)).await;
        counters.expect_one(wanted).await;
    }
    let scrape = counters.finish().await;
    let code = |side, code| {
        scrape.value(
            "tidegate_close_frames_total",
            &[("route", "all"), ("side", side), ("code", code)],
        )
    };
    // Both normal closes.
    assert_eq!((code("client", "1000"), code("backend", "1000")), (2.0, 2.0));
    // The message that is too big, and the idle tunnel.
    assert_eq!((code("client", "1009"), code("client", "1001")), (1.0, 1.0));
    // The protocol errors.
    assert_eq!((code("client", "1002"), code("backend", "1002")), (2.0, 1.0));
}

/// For tunnels in which one side does not read.
const NEVER_READS: &str = "[heartbeat]\ninterval = \"off\"\n\
                           [limits]\nwrite_timeout = \"500ms\"\nclose_grace = \"300ms\"\n";

#[tokio::test]
async fn client_timeouts_are_counted_once() {
    // The client does not answer pings.
    let beats = "[heartbeat]\ninterval = \"300ms\"\ntimeout = \"300ms\"\n\
                 [limits]\nclose_grace = \"300ms\"\n";
    let bed = TestBed::with(beats).await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let (mut client, backend) = bed.open().await;
    read_to_end(&mut client).await;
    drop((client, backend));
    counters.expect_one("client heartbeat_timeout all").await;
    counters.finish().await;
    // The client does not read. Without heartbeat, since a ping may fit into the buffers.
    let bed = TestBed::with(NEVER_READS).await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let (client, mut backend) = bed.open().await;
    let flood = wire::unmasked(0x82, &[7; 1 << 16]);
    while backend.write_all(&flood).await.is_ok() {}
    counters.expect_one("client write_timeout all").await;
    drop(client);
    counters.finish().await;
}

#[tokio::test]
async fn drain_is_counted_while_it_lasts() {
    let drain =
        "[limits]\nclose_grace = \"10s\"\n[drain]\nwindow = \"100ms\"\ndeadline = \"20s\"\n";
    let bed = TestBed::with(drain).await;
    let mut late = BufReader::new(bed.client.connect_plain().await);
    let (half, rest) = HANDSHAKE.split_at(40);
    late.write_all(half.as_bytes()).await.unwrap();
    let (mut one, mut backend) = bed.open().await;
    let mut other = bed.open().await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    bed.proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(wire::read(&mut one).await.unwrap().code(), 1012);
    assert_eq!(wire::read(&mut other.0).await.unwrap().code(), 1012);
    late.write_all(rest.as_bytes()).await.unwrap();
    read_to_end(&mut late).await;
    counters.expect_one("draining admit").await;
    one.write_all(&wire::masked(0x88, &wire::close(1012, ""))).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    backend.write_all(&wire::unmasked(0x88, &wire::close(1001, ""))).await.unwrap();
    read_to_end(&mut one).await;
    drop((one, backend));
    counters.expect_one("tidegate drained all").await;
    // The other tunnel has not answered, and keeps the process alive.
    let now = bed.proxy.scrape().await;
    assert_eq!(now.value("tidegate_draining", &[]), 1.0);
    assert_eq!(now.sum("tidegate_tunnels", &[]), 1.0);
    assert!(counters.wrong.is_empty(), "{:#?}", counters.wrong);
}

/// Appended to a configuration that ends inside `[limits]`: the peers here do not answer a Close.
const SHORT_CLOSE_GRACE: &str = "close_grace = \"100ms\"\n";

/// A rule for the frames of one side: its name, the setting that enforces it, and frames that
/// violate it, each followed by a Text at both ends.
type RuleCase = (&'static str, fn(&str, &str) -> String, fn(Make) -> Vec<Vec<u8>>);
/// Encodes a valid frame of a side.
type Make = fn(u8, &[u8]) -> Vec<u8>;

const LIMIT_VIOLATIONS: [RuleCase; 7] = [
    (
        "message_too_big",
        |side, action| cap("message", side, "\"100B\"", action),
        |make| vec![make(0x01, &[7; 60]), make(0x80, &[7; 60])],
    ),
    (
        "frame_too_big",
        |side, action| cap("frame", side, "\"100B\"", action),
        |make| vec![make(0x82, &[7; 101])],
    ),
    (
        "too_many_fragments",
        |side, action| cap("fragments", side, "2", action),
        |make| vec![make(0x01, b"a"), make(0x00, b"b"), make(0x80, b"c")],
    ),
    (
        "message_too_old",
        |side, action| cap("message_age", side, "\"100ms\"", action),
        |make| vec![make(0x01, b"a"), make(0x00, b"b")],
    ),
    (
        "message_rate",
        |side, action| rate("messages", side, "1/s", "2", action),
        |make| vec![make(0x81, b"a"); 8],
    ),
    (
        "byte_rate",
        |side, action| rate("bytes", side, "1KiB/s", "\"1KiB\"", action),
        |make| vec![make(0x82, &[7; 500]); 8],
    ),
    (
        "control_rate",
        |side, action| rate("control_frames", side, "1/s", "2", action),
        |make| vec![make(0x8a, b"a"); 8],
    ),
];

const PROTOCOL_ERRORS: [RuleCase; 6] = [
    ("ws_rsv", |_, action| strict(action), |make| vec![make(0xc1, b"a")]),
    ("ws_opcode", |_, action| strict(action), |make| vec![make(0x83, b"a")]),
    ("ws_control", |_, action| strict(action), |make| vec![make(0x09, b"a")]),
    ("ws_continuation", |_, action| strict(action), |make| vec![make(0x80, b"a")]),
    (
        "ws_length",
        |_, action| strict(action),
        |make| {
            // One byte, in a two-byte length.
            let frame = make(0x81, b"a");
            vec![[&[0x81, frame[1] & 0x80 | 126, 0, 1], &frame[2..]].concat()]
        },
    ),
    ("ws_close", |_, action| strict(action), |make| vec![make(0x88, b"a")]),
];

fn cap(key: &str, side: &str, max: &str, action: &str) -> String {
    format!("[limits]\n{key}_from_{side} = {{ max = {max}, action = \"{action}\" }}\n")
}

fn rate(key: &str, side: &str, rate: &str, burst: &str, action: &str) -> String {
    format!(
        "[limits]\n{key}_from_{side} = {{ rate = \"{rate}\", burst = {burst}, action = \"{action}\" }}\n"
    )
}

fn strict(action: &str) -> String {
    format!("strict = \"{}\"\n[limits]\n", if action == "close" { "enforce" } else { "report" })
}

const SIDES: [(&str, Make); 2] = [("client", wire::masked), ("backend", wire::unmasked)];

#[tokio::test]
async fn violations_and_protocol_errors_are_counted() {
    let all = SIDES.iter().flat_map(|side| {
        LIMIT_VIOLATIONS.iter().chain(&PROTOCOL_ERRORS).map(move |rule| (side, rule))
    });
    for ((side, make), (name, settings, frames)) in all {
        let bed = TestBed::with(&(settings(side, "close") + SHORT_CLOSE_GRACE)).await;
        let mut counters = CounterCheck::new(&bed.proxy).await;
        let (mut client, mut backend) = bed.open().await;
        let sent = frames(*make).concat();
        let sender = if *side == "client" { &mut client } else { &mut backend };
        sender.write_all(&sent).await.unwrap();
        tokio::join!(read_to_end(&mut client), async {
            read_to_end(&mut backend).await;
        });
        drop((client, backend));
        counters.expect_one(&format!("{side} {name} all")).await;
        counters.finish().await;
    }
}

#[tokio::test]
async fn reported_violations_count_once_per_tunnel() {
    let reported = ["tidegate_would_have_closed_total"];
    let all = SIDES.iter().flat_map(|side| {
        LIMIT_VIOLATIONS.iter().chain(&PROTOCOL_ERRORS[..5]).map(move |rule| (side, rule))
    });
    for ((side, make), (name, settings, frames)) in all {
        let bed = TestBed::with(&settings(side, "report")).await;
        let mut counters = CounterCheck::new(&bed.proxy).await;
        let (mut client, mut backend) = bed.open().await;
        for _ in 0..2 {
            let frames = frames(*make);
            let (sender, receiver) = match *side {
                "client" => (&mut client, &mut backend),
                _ => (&mut backend, &mut client),
            };
            for frame in &frames {
                sender.write_all(frame).await.unwrap();
            }
            for _ in &frames {
                wire::read(receiver).await.unwrap();
            }
            if *name == "message_too_old" {
                tokio::time::sleep(std::time::Duration::from_millis(150)).await;
                sender.write_all(&make(0x80, b"c")).await.unwrap();
                wire::read(receiver).await.unwrap();
            }
        }
        close_normally(client, backend).await;
        counters.outcomes += 1;
        bed.proxy.nth_end_record(counters.outcomes).await;
        let grown = bed.proxy.scrape().await.increases(&counters.last, &reported);
        assert_eq!(grown, [format!("{name} all {side} by 1")]);
        counters.finish().await;
    }
}

#[tokio::test]
async fn masking_errors_are_counted_per_side() {
    let bed = TestBed::with("").await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    for (name, side) in [("ws_unmasked", "client"), ("ws_masked", "backend")] {
        let (client, backend) = bed.open().await;
        match side {
            "client" => from_client(client, backend, wire::unmasked(0x81, b"bare")).await,
            _ => from_backend(client, backend, wire::masked(0x81, b"masked")).await,
        }
        counters.expect_one(&format!("{side} {name} all")).await;
    }
    counters.finish().await;
}

#[tokio::test]
async fn backend_timeouts_are_counted_once() {
    let beats = "[heartbeat]\nbackend_interval = \"300ms\"\nbackend_timeout = \"300ms\"\n\
                 [limits]\nclose_grace = \"300ms\"\n";
    let bed = TestBed::with(beats).await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let (mut client, backend) = bed.open().await;
    read_to_end(&mut client).await;
    drop((client, backend));
    counters.expect_one("backend heartbeat_timeout all").await;
    counters.finish().await;
    let bed = TestBed::with(NEVER_READS).await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let (mut client, backend) = bed.open().await;
    let flood = wire::masked(0x82, &[7; 1 << 16]);
    while client.write_all(&flood).await.is_ok() {}
    counters.expect_one("backend write_timeout all").await;
    drop(backend);
    counters.finish().await;
}

#[tokio::test]
async fn lifetime_limit_is_counted_once() {
    let bed = TestBed::with(
        "[heartbeat]\ninterval = \"off\"\n[limits]\nlifetime = \"1s\"\nclose_grace = \"200ms\"\n",
    )
    .await;
    let mut counters = CounterCheck::new(&bed.proxy).await;
    let (mut client, backend) = bed.open().await;
    read_to_end(&mut client).await;
    drop((client, backend));
    counters.expect_one("tidegate lifetime all").await;
    counters.finish().await;
}
