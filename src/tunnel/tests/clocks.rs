//! What happens when nothing does.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::{advance, sleep};
use ws::{CloseCodes, Side, TerminationReason};

use super::rig::{Far, Farewell, HEARTBEAT, Over, Rig, Setup};
use super::wire::{BINARY, CLOSE, PING, PONG, TEXT, bare, code, masked};
use crate::tunnel::tests::over_all;

over_all!(
    the_heartbeat_asks_the_client_alone,
    a_silent_client_is_lost,
    ping_waits_for_the_frame_in_progress,
    idle_counts_data_alone,
    client_that_never_reads_is_reset,
    client_resuming_within_grace_receives_the_close,
    backend_that_never_reads_is_reset,
    a_client_is_heard_again_once_its_backend_is_given_up,
    a_close_nobody_reads_ends_with_the_grace,
);

fn beating() -> Setup {
    let mut setup = Setup::default();
    setup.terms.heartbeat_client = Some(HEARTBEAT);
    setup
}

async fn the_heartbeat_asks_the_client_alone(over: Over) {
    let mut rig = Rig::new(over, beating()).await;
    let ping = rig.client.frame().await;
    assert_eq!((ping.first, ping.masked, ping.payload.len()), (PING, false, 8));
    assert!((15..=30).contains(&rig.age()), "{} s", rig.age());
    let first = rig.age();
    sleep(Duration::from_secs(3)).await;
    // Its pong between two of the application's frames, and in one write with them.
    let words = [masked(TEXT, b"one"), masked(PONG, &ping.payload), masked(PONG, b"two")].concat();
    rig.client.say(&words).await;
    assert_eq!(rig.backend.frame().await.payload, b"one");
    let next = rig.backend.frame().await;
    assert_eq!((next.first, &next.payload[..]), (PONG, &b"two"[..]));
    // The next ping comes one interval after the answer, and its pong alone.
    let ping = rig.client.frame().await;
    assert_eq!((ping.first, rig.age()), (PING, first + 33));
    rig.client.say(&masked(PONG, &ping.payload)).await;
    assert_eq!(rig.client.frame().await.first, PING);
    assert_eq!(rig.age(), first + 63);
    // The backend has heard nothing of any of it.
    rig.client.say(&masked(TEXT, b"three")).await;
    assert_eq!(rig.backend.frame().await.payload, b"three");
}

async fn a_silent_client_is_lost(over: Over) {
    let mut rig = Rig::new(over, beating()).await;
    assert_eq!(rig.client.frame().await.first, PING);
    let asked = rig.age();
    // Not an answer: somebody else's pong.
    rig.client.say(&masked(PONG, b"12345678")).await;
    assert_eq!(rig.client.frame().await.close_code(), Some(1001));
    assert_eq!(rig.age(), asked + 10);
    assert_eq!(rig.backend.frame().await.first, PONG);
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    rig.client.ends_cut().await;
    assert_eq!(rig.age(), asked + 15);
    assert_eq!(rig.ending().await.end, TerminationReason::HeartbeatLost(Side::Client));
}

// Requirements: F13.
async fn ping_waits_for_the_frame_in_progress(over: Over) {
    let mut rig = Rig::new(over, beating()).await;
    let large = bare(BINARY, &[7; 1000]);
    rig.backend.say(&large[..500]).await;
    assert_eq!(rig.client.hear(500).await, large[..500]);
    sleep(Duration::from_secs(60)).await;
    // The end of the frame and the begin of the next: the ping goes between them.
    rig.backend.say(&[&large[500..], &large[..500]].concat()).await;
    assert_eq!(rig.client.hear(504).await, large[500..]);
    assert_eq!(rig.client.frame().await.first, PING);
    assert_eq!(rig.client.hear(500).await, large[..500]);
    assert_eq!(rig.age(), 60);
}

async fn idle_counts_data_alone(over: Over) {
    let mut setup = beating();
    setup.terms.idle = Some(Duration::from_secs(100));
    let mut rig = Rig::new(over, setup).await;
    sleep(Duration::from_secs(10)).await;
    rig.client.say(&masked(TEXT, b"hi")).await;
    assert_eq!(rig.backend.frame().await.payload, b"hi");
    // Pings and pongs of anybody do not count.
    let close = loop {
        let frame = rig.client.frame().await;
        if frame.first == CLOSE {
            break frame;
        }
        rig.client.say(&masked(PONG, &frame.payload)).await;
        rig.client.say(&masked(PING, b"keep me")).await;
    };
    assert_eq!((close.close_code(), rig.age()), (Some(1001), 110));
    rig.client.say(&masked(CLOSE, &code(1001))).await;
    rig.client.say_closed().await;
    loop {
        let frame = rig.backend.frame().await;
        if frame.first == CLOSE {
            assert_eq!(frame.close_code(), Some(1001));
            break;
        }
    }
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    assert_eq!(rig.ending().await.end, TerminationReason::Idle);
}

// Requirements: TC07.
async fn client_that_never_reads_is_reset(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    let block = bare(BINARY, &[7; 20_000]);
    let _ = rig.backend.say_some(&block).await;
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    assert_eq!(rig.age(), 30);
    // The grace, for a Close behind what it has not taken.
    sleep(Duration::from_secs(6)).await;
    let (bytes, farewell) = rig.client.rest().await;
    assert!(bytes.len() <= 4096 && block.starts_with(&bytes), "{} bytes", bytes.len());
    assert_ne!(farewell, Farewell::Clean);
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::WriteStall(Side::Client));
    assert_eq!(ending.closes, CloseCodes { to_client: None, to_backend: Some(1001) });
}

// Requirements: TC07.
async fn client_resuming_within_grace_receives_the_close(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    let block = bare(BINARY, &[7; 20_000]);
    let said = rig.backend.say_some(&block).await;
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    assert_eq!(rig.age(), 30);
    let (got, ()) = tokio::join!(rig.client.hear(block.len()), rig.backend.say(&block[said..]));
    assert_eq!(got, block);
    assert_eq!(rig.client.frame().await.close_code(), Some(1013));
    rig.client.say(&masked(CLOSE, &code(1013))).await;
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    let ending = rig.ending_by(30).await;
    assert_eq!(ending.end, TerminationReason::WriteStall(Side::Client));
    assert_eq!(ending.closes, CloseCodes { to_client: Some(1013), to_backend: Some(1001) });
}

// Requirements: TC07.
async fn backend_that_never_reads_is_reset(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    let block = masked(BINARY, &[7; 20_000]);
    rig.client.say(&block).await;
    assert_eq!(rig.client.frame().await.close_code(), Some(1011));
    assert_eq!(rig.age(), 30);
    rig.client.say(&masked(CLOSE, &code(1011))).await;
    rig.client.say_closed().await;
    assert_eq!(rig.ending().await.end, TerminationReason::WriteStall(Side::Backend));
}

async fn a_client_is_heard_again_once_its_backend_is_given_up(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    // Inside a frame, so that nothing can be said to the client.
    let half = &bare(BINARY, &[7; 1000])[..500];
    rig.backend.say(half).await;
    assert_eq!(rig.client.hear(500).await, half);
    let said = rig.client.say_some(&masked(BINARY, &[7; 20_000])).await;
    assert!(said > 4096);
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    assert_eq!(rig.ending_by(30).await.end, TerminationReason::WriteStall(Side::Backend));
}

async fn a_close_nobody_reads_ends_with_the_grace(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    rig.backend.say(&bare(BINARY, &[7; 6000])).await;
    sleep(Duration::from_secs(1)).await;
    rig.client.say(&masked(CLOSE, &code(1000))).await;
    rig.backend.say(&bare(CLOSE, &code(1000))).await;
    rig.backend.say_closed().await;
    let begun = rig.age();
    let ending = rig.ending().await;
    assert_eq!((ending.end, begun), (TerminationReason::ClientClosed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_nearer_than_the_armed_one_is_kept() {
    let mut setup = Setup::default();
    setup.terms.idle = Some(Duration::from_secs(3600));
    let mut rig = Rig::new(Over::Script, setup).await;
    // By then the alarm stands at an hour.
    sleep(Duration::from_secs(60)).await;
    rig.backend.say(&bare(CLOSE, &code(1000))).await;
    assert_eq!(rig.client.frame().await.close_code(), Some(1000));
    assert_eq!(rig.backend.frame().await.close_code(), Some(1000));
    assert_eq!(rig.age(), 65);
}

// Requirements: TC08.
#[tokio::test(start_paused = true)]
async fn slow_client_above_the_rate_stays_open() {
    let mut setup = Setup { room: 100, ..Setup::default() };
    setup.terms.min_write_rate = NonZeroU64::new(3);
    let mut rig = Rig::new(Over::Script, setup).await;
    rig.backend.say(&bare(BINARY, &[7; 1000])).await;
    for _ in 0..9 {
        sleep(Duration::from_secs(29)).await;
        rig.client.hear(100).await;
    }
    assert_eq!(rig.client.hear(104).await.len(), 104);
    rig.backend.say(&bare(TEXT, b"still here")).await;
    assert_eq!(rig.client.frame().await.payload, b"still here");
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_has_arrived_counts_though_it_is_read_late() {
    let mut rig = Rig::new(Over::Script, beating()).await;
    let ping = rig.client.frame().await;
    // Both at once: the pong lies in the socket, and its time is over.
    rig.client.say(&masked(PONG, &ping.payload)).await;
    advance(Duration::from_secs(11)).await;
    let asked = rig.age();
    assert_eq!(rig.client.frame().await.first, PING);
    assert_eq!(rig.age(), asked + 30);
}

#[tokio::test(start_paused = true)]
async fn a_pong_behind_a_slow_backend_is_waited_for() {
    let mut rig = Rig::new(Over::Script, Setup { room: 100, ..beating() }).await;
    let ping = rig.client.frame().await;
    // The backend is slow, so the client is not read, and its pong lies in the socket.
    rig.client.say(&masked(BINARY, &[7; 1000])).await;
    sleep(Duration::from_secs(1)).await;
    rig.client.say(&masked(PONG, &ping.payload)).await;
    sleep(Duration::from_secs(25)).await;
    assert_eq!(rig.backend.frame().await.payload.len(), 1000);
    rig.client.say(&masked(TEXT, b"alive")).await;
    assert_eq!(rig.backend.frame().await.payload, b"alive");
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_silence_wakes_the_tunnel_once_per_beat() {
    let mut rig = Rig::new(Over::Script, beating()).await;
    let Far::Script(client, _) = &rig.client else { panic!() };
    let client = client.clone();
    for _ in 0..100 {
        let ping = rig.client.frame().await;
        rig.client.say(&masked(PONG, &ping.payload)).await;
    }
    // Per beat: the timer's wake reads nothing; the pong's reads it, and then nothing.
    let reads = client.look().reads;
    assert!(reads <= 100 * 6 + 6, "{reads}");
}
