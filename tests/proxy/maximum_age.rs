//! The maximum age of a tunnel: in the last fifth of it, both sides are closed at a quiet moment.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::support::{PlainStream, Side, TestBed, wire};

const AGE: Duration = Duration::from_secs(6);
const LIFETIME: &str = "[limits]\nlifetime = \"6s\"\n[heartbeat]\ninterval = \"off\"\n";

/// Expects the Close frames for both sides.
async fn expect_closes(client: &mut PlainStream, backend: &mut PlainStream) {
    let close = wire::read(client).await.unwrap();
    let reason = &b"maximum session lifetime reached; reconnect"[..];
    assert_eq!((close.code(), &close.payload[2..]), (1012, reason));
    assert_eq!(wire::read(backend).await.unwrap().code(), 1001);
}

// Requirements: FC38.
#[tokio::test]
async fn old_tunnel_closes_when_quiet() {
    let bed = TestBed::with(LIFETIME).await;
    // Ten idle tunnels: their closes are spread.
    let mut silent = Vec::new();
    for _ in 0..10 {
        let (begun, (mut client, mut backend)) = (Instant::now(), bed.open().await);
        silent.push(async move {
            expect_closes(&mut client, &mut backend).await;
            begun.elapsed()
        });
    }
    // One tunnel per side inside a message, which ends before the maximum age.
    let mut halves = Vec::new();
    for side in Side::BOTH {
        let (begun, (mut speaker, mut hearer)) = (Instant::now(), bed.open_for(side).await);
        halves.push(async move {
            speaker.write_all(&side.frame(wire::TEXT, b"one, ")).await.unwrap();
            assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"one, ");
            sleep((AGE * 19 / 20).saturating_sub(begun.elapsed())).await;
            speaker.write_all(&side.frame(0x80, b"two")).await.unwrap();
            let end = wire::read(&mut hearer).await.unwrap();
            assert_eq!((end.first, &end.payload[..]), (0x80, &b"two"[..]), "{side:?}");
            let (mut client, mut backend) = side.client_first(speaker, hearer);
            expect_closes(&mut client, &mut backend).await;
            begun.elapsed()
        });
    }
    // One that is never quiet.
    let (begun, (mut client, mut backend)) = (Instant::now(), bed.open().await);
    let busy = async {
        loop {
            let _ = client.write_all(&wire::masked(0x81, b"more")).await;
            let heard = wire::read(&mut backend).await.unwrap();
            if heard.opcode() == wire::CLOSE {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        begun.elapsed()
    };
    let (silent, halves, busy) = tokio::join!(join_all(silent), join_all(halves), busy);
    for age in &silent {
        assert!(*age >= AGE * 4 / 5, "{age:?}");
    }
    let (first, last) = (silent.iter().min().unwrap(), silent.iter().max().unwrap());
    assert!(*last - *first > Duration::from_millis(60), "spread: {first:?} to {last:?}");
    for age in halves.into_iter().chain([busy]) {
        assert!(age >= AGE * 19 / 20, "{age:?}");
    }
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["end"], &record["by"]], ["lifetime", "tidegate"]);
    assert_eq!([&record["key"], &record["value"]], ["limits.lifetime", "6s"]);
    assert_eq!([&record["close_client"], &record["close_backend"]], [1012, 1001]);
}
