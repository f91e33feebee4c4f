//! Readers that are too slow: what they are told, how they are let go of, and how slow is too slow.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PlainStream, Side, TestBed, read_to_end, wire, within_timeout};

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Backend,
        Side::Backend => Side::Client,
    }
}

/// Sends whole frames for as long as they are taken, and hears the Close that comes.
fn flood(from: Side, stream: PlainStream) -> JoinHandle<wire::Frame> {
    let frame = from.frame(0x82, &[1; 60_000]);
    #[expect(clippy::disallowed_methods, reason = "a test's sender")]
    tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (told, said) = tokio::sync::watch::channel(false);
        let write = async {
            while !*said.borrow() && writing.write_all(&frame).await.is_ok() {}
            let _ = writing.write_all(&from.frame(0x88, &wire::close(1000, ""))).await;
        };
        let read = async {
            let close = wire::read_past_pings(&mut reading).await.unwrap();
            told.send_replace(true);
            close
        };
        let ((), close) = tokio::join!(write, read);
        close
    })
}

#[tokio::test]
async fn tc07_fb05_who_wakes_up_in_the_grace_is_told_1013_behind_whole_frames() {
    let limits = "[limits]\nmessage_from_client = \"off\"\nwrite_stall = \"700ms\"\n";
    let bed = TestBed::with(limits).await;
    let (plain, plains_backend) = bed.open().await;
    let (secure, secures_backend) = bed.open_secure().await;
    let backends = [plains_backend, secures_backend].map(|it| flood(Side::Backend, it));
    // Past the limit, and within the same time again.
    sleep(Duration::from_millis(1000)).await;
    tokio::join!(wake_up(plain), wake_up(secure));
    for (session, backend) in (1..).zip(backends) {
        let told = within_timeout("the backend to be told", backend).await.unwrap();
        assert_eq!(told.code(), 1001);
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["write_stall", "client"]);
        assert_eq!([&record["close_client"], &record["close_backend"]], [1013, 1001]);
    }
}

async fn wake_up(mut client: impl AsyncRead + AsyncWrite + Unpin) {
    let told = loop {
        let frame = wire::read(&mut client).await.unwrap();
        if frame.opcode() == wire::CLOSE {
            break frame;
        }
        assert_eq!((frame.first, frame.payload.len()), (0x82, 60_000));
    };
    assert_eq!((told.code(), &told.payload[2..]), (1013, &b"too slow to read"[..]));
    client.write_all(&wire::masked(0x88, &told.payload)).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
}

#[tokio::test]
async fn tc07_fb05_whoever_takes_nothing_is_reset() {
    let limits = "[limits]\nmessage_from_client = \"off\"\nwrite_stall = \"400ms\"\n\
                  close_grace = \"300ms\"\n";
    join_all(Side::BOTH.map(async |side| {
        let bed = TestBed::with(limits).await;
        let (mut sleeper, sender) = bed.open_for(side).await;
        let begun = Instant::now();
        let told =
            within_timeout("the sender to be told", flood(other(side), sender)).await.unwrap();
        let code = if side == Side::Client { 1001 } else { 1011 };
        assert_eq!((told.code(), &told.payload[2..]), (code, &b"the other side does not read"[..]));
        let record = bed.tunnel_end(1).await;
        let took = begun.elapsed().as_millis();
        assert!((400..3000).contains(&took), "{took} ms");
        assert_eq!([&record["end"], &record["by"]], ["write_stall", side.as_str()]);
        assert_eq!([&record["key"], &record["value"]], ["limits.write_stall", "400ms"]);
        assert_eq!(record[format!("close_{}", other(side).as_str())], code);
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

#[tokio::test]
async fn tc08_a_reader_below_the_trickle_is_as_one_that_takes_nothing() {
    let cases = Side::BOTH.map(|side| [(side, "64MiB/s", false), (side, "20KiB/s", true)]);
    join_all(cases.into_iter().flatten().map(|(side, trickle, lives)| sips(side, trickle, lives)))
        .await;
}

async fn sips(side: Side, trickle: &str, lives: bool) {
    let limits = format!(
        "[limits]\nmessage_from_client = \"off\"\nwrite_stall = \"1s\"\n\
         write_trickle = \"{trickle}\"\n"
    );
    let bed = TestBed::with(&limits).await;
    let (mut sipper, sender) = bed.open_for(side).await;
    let mut sender = flood(other(side), sender);
    // A MiB/s or so: each buffer is emptied in time, and never as fast as it is filled.
    let sip = async {
        let mut piece = vec![0; 32 * 1024];
        while sipper.read(&mut piece).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let told = async {
        tokio::select! {
            told = &mut sender => told.unwrap().code(),
            () = sip => 0,
        }
    };
    let patience = Duration::from_millis(if lives { 2500 } else { 20_000 });
    let told = timeout(patience, told).await.ok();
    assert_eq!(told.is_none(), lives, "{side:?} {trickle}: {told:?}");
    sender.abort();
}
