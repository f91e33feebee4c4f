//! Endless messages and floods of control frames, with the default limits and with those that can
//! be set for a backend.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{
    Side, TestBed, close_normally, wait_until_client_data_processed, wire, within_timeout,
};

const MANY: usize = 4096;

/// Sends these frames repeatedly, `count` at a time, until a Close arrives; returns its code, the
/// code sent to the other side, and the number of frames that reached the other side before.
async fn until_closed(
    side: Side,
    bed: &TestBed,
    begin: &[u8],
    again: &[u8],
    burst: usize,
) -> (u16, u16, usize) {
    let (speaker, mut hearer) = bed.open_for(side).await;
    let (mut reading, mut writing) = tokio::io::split(speaker);
    let (before, _) = bed.proxy.memory_and_descriptors();
    let pour = async {
        writing.write_all(begin).await.unwrap();
        let many = again.repeat(burst);
        for _ in 0..131_072 / burst {
            if writing.write_all(&many).await.is_err() {
                break;
            }
            // A delayed reader would excuse a message that takes long.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let hear = async {
        let mut bytes = 0;
        loop {
            let frame = wire::read(&mut hearer).await.unwrap();
            if frame.opcode() == wire::CLOSE {
                let close = side.other().frame(0x80 | wire::CLOSE, &frame.payload);
                hearer.write_all(&close).await.unwrap();
                return (frame.code(), bytes);
            }
            bytes += 1;
        }
    };
    let both = async { tokio::join!(wire::read_past_pings(&mut reading), hear) };
    let (code, (other, frames)) = tokio::select! {
        () = pour => unreachable!(),
        both = within_timeout("both to be closed", both) => both,
    };
    let (after, _) = bed.proxy.memory_and_descriptors();
    assert!(after < before + 2048, "{} KiB", after - before);
    (code.unwrap().code(), other, frames)
}

// Requirements: FC09, FC10.
#[tokio::test]
async fn fragment_count_is_limited() {
    // The number of fragments follows the size of messages.
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1MiB\"\n").await;
    for (session, payload) in [(1, &b"x"[..]), (2, b"")] {
        let begin = wire::masked(wire::TEXT, payload);
        let again = wire::masked(wire::CONTINUATION, payload);
        let (code, other, frames) = until_closed(Side::Client, &bed, &begin, &again, MANY).await;
        assert_eq!((code, other, frames), (1008, 1001, 1024));
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["too_many_fragments", "client"]);
        assert_eq!([&record["key"], &record["value"]], ["limits.fragments_from_client", "1024"]);
    }
}

// Requirements: FC09, FB04.
#[tokio::test]
async fn message_duration_is_limited() {
    for side in Side::BOTH {
        let slug = side.as_str();
        let limits = format!(
            "[limits]\nmessage_from_{slug} = \"off\"\nmessage_age_from_{slug} = \"300ms\"\n"
        );
        let bed = TestBed::with(&limits).await;
        let (begin, again) = (side.frame(wire::TEXT, b"x"), side.frame(wire::CONTINUATION, b"x"));
        let (code, other, _) = until_closed(side, &bed, &begin, &again, 20).await;
        let expected = if side == Side::Client { 1001 } else { 1013 };
        assert_eq!((code, other), (1008, expected));
        let record = bed.tunnel_end(1).await;
        assert_eq!([&record["end"], &record["by"]], ["message_too_old", slug]);
    }
}

// Requirements: FB04.
#[tokio::test]
async fn backend_fragment_count_can_be_limited() {
    let bed = TestBed::with("[limits]\nfragments_from_backend = 100\n").await;
    let (begin, again) =
        (wire::unmasked(wire::TEXT, b"x"), wire::unmasked(wire::CONTINUATION, b""));
    let code = until_closed(Side::Backend, &bed, &begin, &again, MANY).await;
    assert_eq!(code, (1008, 1013, 100));
    let record = bed.tunnel_end(1).await;
    assert_eq!([&record["end"], &record["by"]], ["too_many_fragments", "backend"]);
}

// Requirements: FC14, FC15, FB11.
#[tokio::test]
async fn control_frame_rate_is_limited() {
    let bed = TestBed::with("").await;
    let mut session = 0;
    for side in Side::BOTH {
        for opcode in [wire::PING, wire::PONG] {
            session += 1;
            let again = side.frame(0x80 | opcode, b"flood");
            let begun = Instant::now();
            let (code, other, frames) = until_closed(side, &bed, b"", &again, MANY).await;
            // A slow machine gives the bucket more time to refill, by 50 tokens a second.
            let refilled = 50 * begun.elapsed().as_millis() as usize / 1000;
            let expected = if side == Side::Client { 1001 } else { 1013 };
            assert_eq!((code, other), (1008, expected), "{side:?} {opcode}");
            // Two seconds' worth at once, and the answers received meanwhile.
            assert!(
                (100..=100 + refilled.max(29)).contains(&frames),
                "{side:?} {opcode}: {frames}"
            );
            let record = bed.tunnel_end(session).await;
            assert_eq!([&record["end"], &record["by"]], ["control_rate", side.as_str()]);
        }
    }
}

// Requirements: FC14.
#[tokio::test]
async fn control_frame_burst_is_allowed() {
    let bed = TestBed::with("").await;
    for side in Side::BOTH {
        let (mut speaker, mut hearer) = bed.open_for(side).await;
        let pings = side.frame(0x89, b"").repeat(98);
        let sent = [pings, side.frame(0x81, b"m").repeat(5000)].concat();
        let (_, mut writing) = speaker.get_mut().split();
        let mut got = vec![0; sent.len()];
        let (written, read) = tokio::join!(writing.write_all(&sent), hearer.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert!(got == sent, "{side:?}");
        let (mut client, mut backend) = side.client_first(speaker, hearer);
        wait_until_client_data_processed(&mut client, &mut backend).await;
        close_normally(client, backend).await;
    }
}
