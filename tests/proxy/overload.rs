//! Floods, stalls and unusual states, several at once: no peer is closed for what another does, no
//! tunnel starves, and waiting tunnels use no CPU.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{
    PlainStream, TestBed, assert_relays, read_to_end, reset, wire, within_timeout,
};

#[tokio::test]
async fn slow_backend_does_not_fail_client_heartbeat() {
    let config = "[heartbeat]\ninterval = \"200ms\"\ntimeout = \"2s\"\n\
                  [limits]\nmessage_from_client = \"off\"\n";
    let bed = TestBed::with(config).await;
    let (client, mut backend) = bed.open().await;
    let (mut from, mut to) = tokio::io::split(client);
    let frame = wire::masked(0x82, &[1; 60_000]);
    let written = wire::fill(&mut to, &frame).await;
    // The pong is queued after data the backend does not read, in some buffer.
    let finish = async {
        let mut pongs = 0;
        let at = written % frame.len();
        if at > 0 {
            to.write_all(&frame[at..]).await.unwrap();
        }
        loop {
            let asked = wire::read(&mut from).await.unwrap();
            if asked.opcode() == wire::TEXT {
                return pongs;
            }
            assert_eq!(asked.opcode(), wire::PING, "{asked:?}");
            to.write_all(&wire::masked(0x80 | wire::PONG, &asked.payload)).await.unwrap();
            pongs += 1;
        }
    };
    let wake = async {
        // Several times the heartbeat timeout.
        sleep(Duration::from_secs(5)).await;
        let whole = written.div_ceil(frame.len());
        for _ in 0..whole {
            assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 60_000);
        }
        sleep(Duration::from_millis(500)).await;
        backend.write_all(&wire::unmasked(0x81, b"still here")).await.unwrap();
    };
    let (pongs, ()) =
        within_timeout("the backlog to clear", async { tokio::join!(finish, wake) }).await;
    assert!(pongs > 0);
}

#[tokio::test]
async fn floods_do_not_starve_a_quiet_tunnel() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"off\"\n").await;
    let (mut quiet, mut quiets_backend) = bed.open_secure().await;
    let mut floods = JoinSet::new();
    for _ in 0..4 {
        let (client, backend) = bed.open().await;
        let (up_from, up_to) = tokio::io::split(client);
        let (down_from, down_to) = tokio::io::split(backend);
        floods.spawn(write_forever(up_to, wire::masked(0x82, &[1; 30_000])));
        floods.spawn(write_forever(down_to, wire::unmasked(0x82, &[1; 30_000])));
        floods.spawn(read_and_discard(up_from));
        floods.spawn(read_and_discard(down_from));
    }
    // Small frames cost more per byte than large ones.
    let (client, backend) = bed.open().await;
    floods.spawn(write_forever(client, wire::masked(0x89, b"ping").repeat(5_000)));
    floods.spawn(read_and_discard(backend));
    for _ in 0..30 {
        assert_relays(&mut quiet, &mut quiets_backend).await;
    }
    let (weight, _) = bed.proxy.memory_and_descriptors();
    assert!(weight < 100 * 1024, "{weight} KiB");
    floods.shutdown().await;
    bed.proxy.wait_for_tunnels(1).await;
    assert_relays(&mut quiet, &mut quiets_backend).await;
}

#[tokio::test]
async fn disconnect_during_mutual_flood_releases_everything() {
    let config = "[limits]\nmessage_from_client = \"off\"\nwrite_timeout = \"10m\"\n\
                  close_grace = \"300ms\"\n[heartbeat]\ninterval = \"off\"\n";
    let bed = TestBed::with(config).await;
    for session in 1..=4 {
        let (mut client, mut backend) = bed.open().await;
        // Neither side reads, so both directions are full.
        wire::fill(&mut client, &wire::masked(0x82, &[1; 60_000])).await;
        wire::fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await;
        match session {
            1 => drop((client, backend)),
            2 => drop((backend, client)),
            3 => {
                reset(client);
                reset(backend);
            }
            _ => {
                reset(backend);
                reset(client);
            }
        }
        let end = bed.tunnel_end(session).await["end"].clone();
        assert!(end == "client_disconnected" || end == "backend_disconnected", "{end}");
    }
    bed.proxy.wait_until_idle().await;
}

#[tokio::test]
async fn waiting_tunnels_use_no_cpu() {
    let config = "[limits]\nclose_grace = \"10m\"\nwrite_timeout = \"10m\"\n[heartbeat]\ninterval = \"off\"\n";
    let bed = TestBed::with(config).await;
    let masked = wire::masked;
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    for secure in [false, true] {
        for state in 0..9 {
            let (mut client, mut backend): (Box<dyn Both>, PlainStream) = if secure {
                let (client, backend) = bed.open_secure().await;
                (Box::new(client), backend)
            } else {
                let (client, backend) = bed.open().await;
                (Box::new(client), backend)
            };
            match state {
                // Idle.
                0 => {}
                // A partial header and partial control frames.
                1 => client.write_all(b"\x82").await.unwrap(),
                2 => client.write_all(&masked(0x89, b"a ping")[..8]).await.unwrap(),
                3 => backend.write_all(b"\x89\x05abc").await.unwrap(),
                // Half closed, while the other side is silent.
                4 => client.shutdown().await.unwrap(),
                5 => {
                    backend.write_all(&wire::unmasked(0x82, &[0; 100])[..50]).await.unwrap();
                    client.write_all(&masked(0x88, b"")).await.unwrap();
                }
                // An unanswered Close of the client; one of the proxy.
                6 => client.write_all(&masked(0x88, b"")).await.unwrap(),
                7 => client.write_all(&masked(0x82, &vec![0; 2 << 20])[..14]).await.unwrap(),
                // The client does not read.
                _ => drop(wire::fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await),
            }
            client.flush().await.unwrap();
            held.push(Box::new((client, backend)));
        }
        // A backend that does not read.
        let (mut client, backend) = bed.open().await;
        wire::fill(&mut client, &masked(0x82, &[1; 60_000])).await;
        held.push(Box::new((client, backend)));
    }
    // On a busy machine the proxy may still have to process what it was sent.
    within_timeout("a quiet second and a half", async {
        loop {
            let before = bed.proxy.cpu_ticks();
            sleep(Duration::from_millis(1500)).await;
            if bed.proxy.cpu_ticks() - before < 15 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn drain_cuts_peers_that_do_not_read() {
    let config = "[drain]\nwindow = \"10ms\"\ndeadline = \"2s\"\n";
    let mut bed = TestBed::with(config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (client, mut backend) = bed.open().await;
        wire::fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await;
        held.push((client, backend));
    }
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
    let stopped = bed.proxy.record("stopped", |r| r["message"] == "shutdown complete").await;
    assert_eq!((&stopped["tunnels"], &stopped["aborted"]), (&3.into(), &3.into()));
}

// Requirements: H14.
#[tokio::test]
async fn tls_half_close_still_receives_the_answer() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open_secure().await;
    client.write_all(&wire::masked(0x81, b"the question")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"the question");
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    backend.write_all(&wire::unmasked(0x81, b"the answer")).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().payload, b"the answer");
    drop(backend);
    assert_eq!(read_to_end(&mut client).await, b"");
    assert_eq!(bed.tunnel_end(1).await["end"], "client_disconnected");
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Both for S {}

/// Writes the bytes repeatedly until the stream fails.
async fn write_forever(mut to: impl AsyncWrite + Unpin, bytes: Vec<u8>) {
    while to.write_all(&bytes).await.is_ok() {}
}

/// Reads and discards until the stream ends.
async fn read_and_discard(mut from: impl AsyncRead + Unpin) {
    let mut scrap = vec![0; 64 * 1024];
    while let Ok(1..) = from.read(&mut scrap).await {}
}
