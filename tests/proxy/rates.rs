//! A side that is over its rate and is made to wait: nothing is lost or reordered, it is really
//! not read, and everything else goes on.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::support::{PlainStream, Side, TestBed, wire, within_timeout};

/// A side that may send so much, and waits when it is over.
async fn paced(side: Side, limit: &str, table: &str, more: &str) -> TestBed {
    let side = side.as_str();
    TestBed::with(&format!(
        "[limits]\ncontrols_from_{side} = \"off\"\n{limit}_from_{side} = {{ {table} }}\n{more}"
    ))
    .await
}

/// What the other side sends passes at once.
async fn answers(side: Side, speaker: &mut PlainStream, hearer: &mut PlainStream) {
    let other = if side == Side::Client { Side::Backend } else { Side::Client };
    hearer.write_all(&other.frame(0x81, b"the other way")).await.unwrap();
    let heard = timeout(Duration::from_millis(400), wire::read_past_pings(speaker)).await;
    assert_eq!(heard.expect("at once").unwrap().payload, b"the other way");
}

/// All of this arrives, as it is and not before its time.
async fn arrives_late(side: Side, bed: &TestBed, sent: &[u8], least: Duration) {
    let (mut speaker, mut hearer) = bed.open_for(side).await;
    let begun = Instant::now();
    speaker.write_all(sent).await.unwrap();
    answers(side, &mut speaker, &mut hearer).await;
    let mut got = vec![0; sent.len()];
    within_timeout("what waits", hearer.read_exact(&mut got)).await.unwrap();
    let took = begun.elapsed();
    assert!(got == sent, "{side:?}: as it was sent");
    assert!(took >= least && took < 4 * least, "{side:?}: {took:?}");
}

#[tokio::test]
async fn fc17_messages_over_the_rate_wait() {
    join_all(Side::BOTH.map(async |side| {
        let bed = paced(side, "messages", "rate = \"50/s\", burst = 5", "").await;
        // Pings between them wait in their place, and take no turn of their own.
        let message = |n: u8| [side.frame(0x89, &[n]), side.frame(0x81, &vec![n; 5 * n as usize])];
        let mut sent = (0..40).flat_map(message).collect::<Vec<_>>().concat();
        sent.extend(side.frame(0x88, &wire::close(1000, "")));
        arrives_late(side, &bed, &sent, Duration::from_millis(700)).await;
    }))
    .await;
}

#[tokio::test]
async fn fc18_bytes_over_the_rate_wait() {
    join_all(Side::BOTH.map(async |side| {
        // Action and burst as they are by default.
        let bed = paced(side, "bytes", "rate = \"50KiB/s\"", "").await;
        let sent: Vec<u8> = (0..27).flat_map(|n| side.frame(0x82, &[n; 5000])).collect();
        arrives_late(side, &bed, &sent, Duration::from_millis(600)).await;
    }))
    .await;
}

#[tokio::test]
async fn fc14_fc15_control_frames_may_be_made_to_wait() {
    join_all(Side::BOTH.map(async |side| {
        let limit = format!(
            "[limits]\ncontrols_from_{} = {{ rate = \"50/s\", burst = 5, action = \"delay\" }}",
            side.as_str()
        );
        let bed = TestBed::with(&limit).await;
        let sent: Vec<u8> = (0..40).flat_map(|n| side.frame(0x89 + n % 2, &[n])).collect();
        arrives_late(side, &bed, &sent, Duration::from_millis(700)).await;
    }))
    .await;
}

#[tokio::test]
async fn whoever_is_made_to_wait_is_not_read() {
    join_all(Side::BOTH.map(async |side| {
        let bed = paced(side, "messages", "rate = \"1/s\", burst = 1", "").await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        let (before, _) = bed.proxy.memory_and_descriptors();
        let message = side.frame(0x81, &[b'x'; 1000]);
        let (mut written, mut heard) = (0, 0);
        // It ends when the kernel takes no more, on either side of the connection.
        let fill = async {
            let next = |written: usize| &message[written % message.len()..];
            while let Ok(taken) = timeout(QUIET, speaker.write(next(written))).await {
                written += taken.unwrap();
            }
        };
        let hear = async {
            let mut scrap = vec![0; 64 * 1024];
            loop {
                heard += hearer.read(&mut scrap).await.unwrap();
            }
        };
        tokio::select! {
            () = within_timeout("the sender to be stopped", fill) => {}
            () = hear => {}
        }
        assert!(heard < 5 * message.len() && written > heard, "{heard} of {written} bytes");
        let (after, _) = bed.proxy.memory_and_descriptors();
        assert!(after < before + 2048, "{before} to {after} KiB for {written} bytes");
        answers(side, &mut speaker, &mut hearer).await;
    }))
    .await;
}

/// Who takes nothing for so long takes nothing.
const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_pong_that_waits_behind_the_rate_is_not_missed() {
    join_all(Side::BOTH.map(async |side| {
        let beat = match side {
            Side::Client => "interval = \"200ms\"\npatience = \"200ms\"",
            Side::Backend => {
                "interval = \"off\"\nbackend_interval = \"200ms\"\nbackend_patience = \"200ms\""
            }
        };
        let more = format!("[heartbeat]\n{beat}\n");
        let bed = paced(side, "messages", "rate = \"4/s\", burst = 1", &more).await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        // A second and a half of messages, and the pong behind them.
        speaker.write_all(&side.frame(0x81, b"wait").repeat(7)).await.unwrap();
        let ping = wire::read(&mut speaker).await.unwrap();
        assert_eq!(ping.opcode(), wire::PING);
        speaker.write_all(&side.frame(0x8a, &ping.payload)).await.unwrap();
        for _ in 0..7 {
            assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
        }
        // It counted: another ping follows, and no Close. Before it, while it was not read, the
        // first one went out again.
        let mut other = ping.clone();
        while other.payload == ping.payload {
            other = wire::read(&mut speaker).await.unwrap();
            assert_eq!(other.opcode(), wire::PING, "{other:?}");
        }
        // And who does not answer this one is gone, as nothing waits any more.
        assert_eq!(wire::read(&mut speaker).await.unwrap().opcode(), wire::CLOSE);
        drop((speaker, hearer));
        let record = bed.tunnel_end(1).await;
        assert_eq!([&record["end"], &record["by"]], ["heartbeat_lost", side.as_str()]);
        let rtt = record.get(format!("{}_rtt_max_ms", side.as_str()));
        assert_eq!(rtt, None, "what was held up here says nothing of the way");
    }))
    .await;
}

#[tokio::test]
async fn a_close_of_the_other_side_ends_the_wait() {
    join_all(Side::BOTH.map(async |side| {
        let bed = paced(side, "messages", "rate = \"1/s\", burst = 1", "").await;
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        speaker.write_all(&side.frame(0x81, b"wait").repeat(100)).await.unwrap();
        assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
        let other = if side == Side::Client { Side::Backend } else { Side::Client };
        let begun = Instant::now();
        hearer.write_all(&other.frame(0x88, &wire::close(1000, "enough"))).await.unwrap();
        assert_eq!(wire::read(&mut speaker).await.unwrap().code(), 1000);
        speaker.write_all(&side.frame(0x88, &wire::close(1000, "well"))).await.unwrap();
        // Nothing that was said before is lost, and the answer comes behind it.
        for _ in 1..100 {
            assert_eq!(wire::read(&mut hearer).await.unwrap().payload, b"wait");
        }
        let told = wire::read(&mut hearer).await.unwrap();
        assert_eq!((told.code(), &told.payload[2..]), (1000, &b"well"[..]));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }))
    .await;
}
