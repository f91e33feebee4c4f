//! Peers over their rate with the action `delay`: nothing is lost or reordered, the peer is not read,
//! and everything else continues.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{PlainStream, Side, TestBed, wire, within_timeout};

/// At 50 frames per second after a burst of five, 40 of them take 700 ms from the moment at which the
/// proxy reads its clock, which may be shortly before they are sent; hence two more.
const FRAMES: u8 = 42;

/// A test bed that delays one side over this limit.
async fn delayed(side: Side, limit: &str, table: &str, more: &str) -> TestBed {
    let side = side.as_str();
    TestBed::with(&format!(
        "[limits]\ncontrol_frames_from_{side} = \"off\"\n{limit}_from_{side} = {{ {table} }}\n{more}"
    ))
    .await
}

/// Sends a message in the direction without a limit, and waits until it arrives.
async fn assert_other_direction_relays(
    side: Side,
    speaker: &mut PlainStream,
    hearer: &mut PlainStream,
) {
    let other = side.other();
    hearer.write_all(&other.frame(0x81, b"the other way")).await.unwrap();
    let message = wire::read_past_pings(speaker).await.unwrap();
    assert_eq!(message.payload, b"the other way");
}

/// Everything arrives unchanged and not too early; the other direction is not delayed.
async fn assert_delayed_but_unchanged(side: Side, bed: &TestBed, sent: &[u8], least: Duration) {
    let (mut speaker, mut hearer) = bed.open_for(side).await;
    let begun = Instant::now();
    speaker.write_all(sent).await.unwrap();
    let other = side.other().frame(0x81, b"the other way");
    hearer.write_all(&other).await.unwrap();
    let mut got = vec![0; sent.len()];
    let delayed = async {
        within_timeout("the delayed frames", hearer.read_exact(&mut got)).await.unwrap();
        begun.elapsed()
    };
    let undelayed = async {
        let message = wire::read_past_pings(&mut speaker).await.unwrap();
        assert_eq!(message.payload, b"the other way");
        begun.elapsed()
    };
    // Polled in this order: if both have arrived before this task runs, the other one was first.
    let (other_took, took) = futures_util::future::join(undelayed, delayed).await;
    assert!(got == sent, "{side:?}: not as it was sent");
    assert!(took >= least && other_took < took, "{side:?}: {took:?}, {other_took:?}");
}

// Requirements: FC17.
#[tokio::test]
async fn messages_over_the_rate_are_delayed() {
    join_all(Side::BOTH.map(async |side| {
        let bed = delayed(side, "messages", "rate = \"50/s\", burst = 5", "").await;
        // Pings in between keep their place and do not count as messages.
        let message = |n: u8| [side.frame(0x89, &[n]), side.frame(0x81, &vec![n; 5 * n as usize])];
        let mut sent = (0..FRAMES).flat_map(message).collect::<Vec<_>>().concat();
        sent.extend(side.frame(0x88, &wire::close(1000, "")));
        assert_delayed_but_unchanged(side, &bed, &sent, Duration::from_millis(700)).await;
    }))
    .await;
}

// Requirements: FC18.
#[tokio::test]
async fn bytes_over_the_rate_are_delayed() {
    join_all(Side::BOTH.map(async |side| {
        // Action and burst have their defaults.
        let bed = delayed(side, "bytes", "rate = \"50KiB/s\"", "").await;
        let sent: Vec<u8> = (0..27).flat_map(|n| side.frame(0x82, &[n; 5000])).collect();
        assert_delayed_but_unchanged(side, &bed, &sent, Duration::from_millis(600)).await;
    }))
    .await;
}

// Requirements: FC14, FC15.
#[tokio::test]
async fn control_frames_over_the_rate_are_delayed() {
    join_all(Side::BOTH.map(async |side| {
        let limit = format!(
            "[limits]\ncontrol_frames_from_{} = {{ rate = \"50/s\", burst = 5, action = \"delay\" }}",
            side.as_str()
        );
        let bed = TestBed::with(&limit).await;
        let sent: Vec<u8> = (0..FRAMES).flat_map(|n| side.frame(0x89 + n % 2, &[n])).collect();
        assert_delayed_but_unchanged(side, &bed, &sent, Duration::from_millis(700)).await;
    }))
    .await;
}

#[tokio::test]
async fn delayed_sender_is_not_read() {
    join_all(Side::BOTH.map(async |side| {
        let bed = delayed(side, "messages", "rate = \"1/s\", burst = 1", "").await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        let (before, _) = bed.proxy.memory_and_descriptors();
        let message = side.frame(0x81, &[b'x'; 1000]);
        let (mut written, mut heard) = (0, 0);
        let begun = Instant::now();
        // Ends when the socket buffers are full.
        let fill = async { written = wire::fill(&mut speaker, &message).await };
        let receive = async {
            let mut scrap = vec![0; 64 * 1024];
            loop {
                heard += hearer.read(&mut scrap).await.unwrap();
            }
        };
        tokio::select! {
            () = within_timeout("the sender to block", fill) => {}
            () = receive => {}
        }
        // One message per second, and the burst.
        let allowed = (2 + begun.elapsed().as_secs() as usize) * message.len();
        assert!(heard <= allowed && written > allowed, "{heard} of {written} bytes");
        let (after, _) = bed.proxy.memory_and_descriptors();
        assert!(after < before + 2048, "{before} to {after} KiB for {written} bytes");
        assert_other_direction_relays(side, &mut speaker, &mut hearer).await;
    }))
    .await;
}

#[tokio::test]
async fn delayed_pong_does_not_fail_the_heartbeat() {
    join_all(Side::BOTH.map(async |side| {
        let beat = match side {
            Side::Client => "interval = \"200ms\"\ntimeout = \"1s\"",
            Side::Backend => {
                "interval = \"off\"\nbackend_interval = \"200ms\"\nbackend_timeout = \"1s\""
            }
        };
        let more = format!("[heartbeat]\n{beat}\n");
        let bed = delayed(side, "messages", "rate = \"4/s\", burst = 1", &more).await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        // More than two seconds of messages, and the pong after them.
        speaker.write_all(&side.frame(0x81, b"wait").repeat(11)).await.unwrap();
        let ping = wire::read(&mut speaker).await.unwrap();
        assert_eq!(ping.opcode(), wire::PING);
        speaker.write_all(&side.frame(0x8a, &ping.payload)).await.unwrap();
        for _ in 0..11 {
            assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
        }
        // The pong counted: another ping follows, and no Close. While the pong was delayed, the
        // first ping was repeated.
        let mut other = ping.clone();
        while other.payload == ping.payload {
            other = wire::read(&mut speaker).await.unwrap();
            assert_eq!(other.opcode(), wire::PING, "{other:?}");
        }
        // This one is not answered, and nothing is delayed any more, so the tunnel closes.
        assert_eq!(wire::read(&mut speaker).await.unwrap().opcode(), wire::CLOSE);
        drop((speaker, hearer));
        let record = bed.tunnel_end(1).await;
        assert_eq!([&record["end"], &record["by"]], ["heartbeat_timeout", side.as_str()]);
        let rtt = record.get(format!("{}_rtt_max_ms", side.as_str()));
        assert_eq!(rtt, None, "a delayed pong must not count as a round trip");
    }))
    .await;
}

#[tokio::test]
async fn close_of_the_other_side_ends_the_delay() {
    join_all(Side::BOTH.map(async |side| {
        let bed = delayed(side, "messages", "rate = \"1/s\", burst = 1", "").await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        speaker.write_all(&side.frame(0x81, b"wait").repeat(100)).await.unwrap();
        assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
        let other = side.other();
        hearer.write_all(&other.frame(0x88, &wire::close(1000, "enough"))).await.unwrap();
        assert_eq!(wire::read(&mut speaker).await.unwrap().code(), 1000);
        speaker.write_all(&side.frame(0x88, &wire::close(1000, "well"))).await.unwrap();
        // Nothing sent before is lost. At the configured rate this would take 99 seconds.
        let close = within_timeout("the Close", async {
            for _ in 1..100 {
                assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
            }
            wire::read(&mut hearer).await.unwrap()
        })
        .await;
        assert_eq!((close.code(), &close.payload[2..]), (1000, &b"well"[..]));
    }))
    .await;
}
