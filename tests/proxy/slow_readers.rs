//! Slow readers: when they count as too slow, and how their connections are closed.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PlainStream, Side, TestBed, read_to_end, wire, within_timeout};

/// Sends whole frames until a Close arrives; returns the Close and, at once, that it has arrived.
fn flood(from: Side, stream: PlainStream) -> (JoinHandle<wire::Frame>, watch::Receiver<bool>) {
    let (closing, closed) = watch::channel(false);
    let arrived = closed.clone();
    let frame = from.frame(0x82, &[1; 60_000]);
    #[expect(clippy::disallowed_methods, reason = "the sender of a test")]
    let task = tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let write = async {
            while !*closed.borrow() && writing.write_all(&frame).await.is_ok() {}
            let _ = writing.write_all(&from.frame(0x88, &wire::close(1000, ""))).await;
        };
        let read = async {
            let close = wire::read_past_pings(&mut reading).await.unwrap();
            closing.send_replace(true);
            close
        };
        let ((), close) = tokio::join!(write, read);
        close
    });
    (task, arrived)
}

// Requirements: TC07, FB05.
#[tokio::test]
async fn client_resuming_within_grace_receives_1013() {
    let limits = "[limits]\nmessage_from_client = \"off\"\nwrite_timeout = \"2s\"\n";
    let bed = TestBed::with(limits).await;
    let (plain, plains_backend) = bed.open().await;
    let (secure, secures_backend) = bed.open_secure().await;
    let (first, first_closed) = flood(Side::Backend, plains_backend);
    let (second, second_closed) = flood(Side::Backend, secures_backend);
    tokio::join!(resume(plain, first_closed), resume(secure, second_closed));
    for (session, backend) in [(1, first), (2, second)] {
        let close = within_timeout("the Close to the backend", backend).await.unwrap();
        assert_eq!(close.code(), 1001);
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["write_timeout", "client"]);
        assert_eq!([&record["close_client"], &record["close_backend"]], [1013, 1001]);
    }
}

/// Reads again once the backend is closed, which leaves the client the write timeout once more.
async fn resume(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut backend_closed: watch::Receiver<bool>,
) {
    within_timeout("the write timeout", backend_closed.wait_for(|closed| *closed)).await.unwrap();
    let close = loop {
        let frame = wire::read(&mut client).await.unwrap();
        if frame.opcode() == wire::CLOSE {
            break frame;
        }
        assert_eq!((frame.first, frame.payload.len()), (0x82, 60_000));
    };
    assert_eq!((close.code(), &close.payload[2..]), (1013, &b"too slow to read"[..]));
    client.write_all(&wire::masked(0x88, &close.payload)).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
}

// Requirements: TC07, FB05.
#[tokio::test]
async fn peer_that_never_reads_is_reset() {
    let limits = "[limits]\nmessage_from_client = \"off\"\nwrite_timeout = \"400ms\"\n\
                  close_grace = \"300ms\"\n";
    join_all(Side::BOTH.map(async |side| {
        let bed = TestBed::with(limits).await;
        let (mut sleeper, sender) = bed.open_for(side).await;
        let begun = Instant::now();
        let close =
            within_timeout("the Close to the sender", flood(side.other(), sender).0).await.unwrap();
        let code = if side == Side::Client { 1001 } else { 1013 };
        assert_eq!(
            (close.code(), &close.payload[2..]),
            (code, &b"the other side does not read"[..])
        );
        let record = bed.tunnel_end(1).await;
        let took = begun.elapsed().as_millis();
        assert!(took >= 400, "{took} ms");
        assert_eq!([&record["end"], &record["by"]], ["write_timeout", side.as_str()]);
        assert_eq!([&record["key"], &record["value"]], ["limits.write_timeout", "400ms"]);
        assert_eq!(record[format!("close_{}", side.other().as_str())], code);
        let mut scrap = vec![0; 1 << 20];
        let end = within_timeout("the reset", async {
            loop {
                match sleeper.read(&mut scrap).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return Some(error.kind()),
                }
            }
        })
        .await;
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "{side:?}");
    }))
    .await;
}

// Requirements: TC08.
#[tokio::test]
async fn reader_above_minimum_rate_stays_open() {
    join_all(Side::BOTH.map(reads_slowly)).await;
}

async fn reads_slowly(side: Side) {
    let limits = "[limits]\nmessage_from_client = \"off\"\nwrite_timeout = \"2s\"\n\
                  min_write_rate = \"1KiB/s\"\n";
    let bed = TestBed::with(limits).await;
    let (mut reader, sender) = bed.open_for(side).await;
    let (mut sender, _) = flood(side.other(), sender);
    // About 1 MiB/s, less than the sender writes.
    let read = async {
        let mut piece = vec![0; 32 * 1024];
        while reader.read(&mut piece).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let close = async {
        tokio::select! {
            close = &mut sender => close.unwrap().code(),
            () = read => 0,
        }
    };
    assert_eq!(timeout(Duration::from_secs(5), close).await.ok(), None, "{side:?}");
    sender.abort();
}
