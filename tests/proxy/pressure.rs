//! Floods, stalls and odd states, several at once: nobody is blamed for what another does, nobody
//! starves, and nothing spins.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{
    PlainStream, TestBed, assert_relays, read_to_end, reset, wire, within_timeout,
};

#[tokio::test]
async fn a_client_behind_a_slow_backend_is_not_taken_for_dead() {
    let config = "[heartbeat]\ninterval = \"200ms\"\npatience = \"800ms\"\n\
                  [limits]\nmessage_from_client = \"off\"\n";
    let bed = TestBed::with(config).await;
    let (client, mut backend) = bed.open().await;
    let (mut from, mut to) = tokio::io::split(client);
    let frame = wire::masked(0x82, &[1; 60_000]);
    let written = fill(&mut to, &frame).await;
    // Its pong is stuck behind what the backend does not take, in whichever buffer.
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
        // Several times the patience.
        sleep(Duration::from_millis(3000)).await;
        let whole = written.div_ceil(frame.len());
        for _ in 0..whole {
            assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 60_000);
        }
        sleep(Duration::from_millis(500)).await;
        backend.write_all(&wire::unmasked(0x81, b"good morning")).await.unwrap();
    };
    let (pongs, ()) =
        within_timeout("the end of the jam", async { tokio::join!(finish, wake) }).await;
    assert!(pongs > 0);
}

#[tokio::test]
async fn floods_both_ways_leave_room_for_a_quiet_neighbour() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"off\"\n").await;
    let (mut quiet, mut quiets_backend) = bed.open_secure().await;
    let mut floods = JoinSet::new();
    for _ in 0..4 {
        let (client, backend) = bed.open().await;
        let (up_from, up_to) = tokio::io::split(client);
        let (down_from, down_to) = tokio::io::split(backend);
        floods.spawn(pour(up_to, wire::masked(0x82, &[1; 30_000])));
        floods.spawn(pour(down_to, wire::unmasked(0x82, &[1; 30_000])));
        floods.spawn(swallow(up_from));
        floods.spawn(swallow(down_from));
    }
    // Small frames cost more than large ones.
    let (client, backend) = bed.open().await;
    floods.spawn(pour(client, wire::masked(0x89, b"ping").repeat(5_000)));
    floods.spawn(swallow(backend));
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
async fn two_that_flooded_each_other_and_are_gone_leave_nothing_behind() {
    let config = "[limits]\nmessage_from_client = \"off\"\nwrite_stall = \"10m\"\n\
                  close_grace = \"300ms\"\n[heartbeat]\ninterval = \"off\"\n";
    let bed = TestBed::with(config).await;
    for session in 1..=4 {
        let (mut client, mut backend) = bed.open().await;
        // Neither reads: both directions are full.
        fill(&mut client, &wire::masked(0x82, &[1; 60_000])).await;
        fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await;
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
        assert!(end == "client_gone" || end == "backend_gone", "{end}");
    }
    bed.proxy.wait_until_idle().await;
}

#[tokio::test]
async fn nothing_that_waits_spins() {
    let config =
        "[limits]\nclose_grace = \"10m\"\nwrite_stall = \"10m\"\n[heartbeat]\ninterval = \"off\"\n";
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
                // Nothing at all.
                0 => {}
                // Half a header, half a control frame: bytes that wait for more.
                1 => client.write_all(b"\x82").await.unwrap(),
                2 => client.write_all(&masked(0x89, b"a ping")[..8]).await.unwrap(),
                3 => backend.write_all(b"\x89\x05abc").await.unwrap(),
                // Half closed, and the other side says nothing.
                4 => client.shutdown().await.unwrap(),
                5 => {
                    backend.write_all(&wire::unmasked(0x82, &[0; 100])[..50]).await.unwrap();
                    client.write_all(&masked(0x88, b"")).await.unwrap();
                }
                // A Close that is not answered; one of ours that is not.
                6 => client.write_all(&masked(0x88, b"")).await.unwrap(),
                7 => client.write_all(&masked(0x82, &vec![0; 2 << 20])[..14]).await.unwrap(),
                // Nobody reads.
                _ => drop(fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await),
            }
            client.flush().await.unwrap();
            held.push(Box::new((client, backend)));
        }
        // A backend that does not read.
        let (mut client, backend) = bed.open().await;
        fill(&mut client, &masked(0x82, &[1; 60_000])).await;
        held.push(Box::new((client, backend)));
    }
    let before = bed.proxy.cpu_ticks();
    sleep(Duration::from_millis(1500)).await;
    let spent = bed.proxy.cpu_ticks() - before;
    assert!(spent < 15, "{spent} hundredths of a second");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_those_who_do_not_read() {
    let config = "[drain]\nwindow = \"10ms\"\ndeadline = \"2s\"\n";
    let mut bed = TestBed::with(config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let (client, mut backend) = bed.open().await;
        fill(&mut backend, &wire::unmasked(0x82, &[1; 60_000])).await;
        held.push((client, backend));
    }
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
    let stopped = bed.proxy.record("stopped", |r| r["message"] == "stopped").await;
    assert_eq!((&stopped["sessions"], &stopped["cut"]), (&3.into(), &3.into()));
}

#[tokio::test]
async fn rfc_h14_a_half_close_of_tls_still_hears_the_answer() {
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
    assert_eq!(bed.tunnel_end(1).await["end"], "client_gone");
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Both for S {}

/// Repeats a frame until the stream takes no more; how many bytes it took.
async fn fill(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> usize {
    let mut written = 0;
    while let Ok(taken) =
        timeout(Duration::from_millis(200), to.write(&frame[written % frame.len()..])).await
    {
        written += taken.unwrap();
    }
    written
}

/// Repeats bytes for as long as they are taken.
async fn pour(mut to: impl AsyncWrite + Unpin, bytes: Vec<u8>) {
    while to.write_all(&bytes).await.is_ok() {}
}

/// Reads for as long as something comes.
async fn swallow(mut from: impl AsyncRead + Unpin) {
    let mut scrap = vec![0; 64 * 1024];
    while let Ok(1..) = from.read(&mut scrap).await {}
}
