//! How a tunnel ends, and what each side gets to see of it.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use ws::{CloseCodes, Limit, LimitKind, Side, TerminationReason};

use super::rig::{Counter, Farewell, Orders, Over, Rig, Setup, leave, session, soon};
use super::wire::{BINARY, CLOSE, TEXT, bare, code, masked, read_all};
use crate::net::plain::PlainStream;
use crate::tunnel::tests::over_all;
use crate::tunnel::{Command, EarlyBytes, Tunnel};

over_all!(
    client_close_completes_the_closing_handshake,
    backend_close_completes_the_closing_handshake,
    unanswered_close_ends_after_the_grace,
    client_half_close_reaches_the_backend,
    tls_truncation_is_not_a_clean_close,
    client_eof_inside_a_frame,
    backend_eof_closes_the_client_with_1011,
    backend_eof_inside_a_frame,
    client_protocol_error_closes_with_1002,
    a_message_is_too_big,
    drain_waits_for_the_frame_in_progress,
    a_cut_drops_both,
    the_end_comes_as_soon_as_the_last_byte_is_taken,
);

// Requirements: F19.
async fn client_close_completes_the_closing_handshake(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let close = masked(CLOSE, &code(1001));
    rig.client.say(&close).await;
    assert_eq!(rig.backend.hear(close.len()).await, close);
    // The backend may still have something to say before it answers.
    let last = [bare(TEXT, b"last"), bare(CLOSE, &code(1001))].concat();
    rig.backend.say(&last).await;
    // Both Closes are through: we end the client's stream, and wait for the backend to end its own.
    let (bytes, farewell) = rig.client.rest().await;
    assert_eq!(bytes, last);
    assert_ne!(farewell, Farewell::Cut);
    rig.client.say_closed().await;
    rig.backend.say_closed().await;
    rig.backend.ends_clean().await;
    assert_eq!(rig.age(), 0);
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::ClientClosed);
    assert_eq!(ending.closes, CloseCodes { to_client: Some(1001), to_backend: Some(1001) });
}

// Requirements: F19.
async fn backend_close_completes_the_closing_handshake(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let close = bare(CLOSE, &code(4000));
    rig.backend.say(&close).await;
    assert_eq!(rig.client.hear(close.len()).await, close);
    let answer = masked(CLOSE, &code(4000));
    rig.client.say(&answer).await;
    assert_eq!(rig.backend.hear(answer.len()).await, answer);
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    rig.backend.say_closed().await;
    rig.backend.ends_clean().await;
    assert_eq!(rig.age(), 0);
    assert_eq!(rig.ending().await.end, TerminationReason::BackendClosed);
}

// Requirements: FC25.
async fn unanswered_close_ends_after_the_grace(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.client.say(&masked(CLOSE, &code(1000))).await;
    // Neither the backend answers nor does the client leave: its Close is answered for the
    // backend after the grace, and after another it is over.
    assert_eq!(rig.client.frame().await.close_code(), Some(1000));
    assert_eq!(rig.age(), 5);
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::ClientClosed);
}

// Requirements: TC09.
async fn client_half_close_reaches_the_backend(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.client.say(&masked(TEXT, b"bye")).await;
    rig.client.say_closed().await;
    assert_eq!(rig.backend.frame().await.payload, b"bye");
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    // What the backend still sends is delivered.
    rig.backend.say(&bare(TEXT, b"and you")).await;
    assert_eq!(rig.client.hear(9).await, bare(TEXT, b"and you"));
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    rig.backend.ends_clean().await;
    rig.client.ends_clean().await;
    assert_eq!(rig.age(), 0);
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::ClientGone);
    assert_eq!(ending.closes, CloseCodes { to_client: None, to_backend: Some(1001) });
}

// Requirements: TL25.
async fn tls_truncation_is_not_a_clean_close(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.client.say_truncated().await;
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    assert_eq!(rig.ending().await.end, TerminationReason::ClientGone);
}

// Requirements: FC30.
async fn client_eof_inside_a_frame(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let frame = masked(BINARY, &[7; 1000]);
    rig.client.say(&frame[..500]).await;
    rig.client.say_closed().await;
    // No Close may be put into the frame, and no frame be made whole by us.
    let (bytes, _) = rig.backend.rest().await;
    assert_eq!(bytes, frame[..500]);
    rig.backend.say_closed().await;
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::ClientGone);
    assert_eq!(ending.closes, CloseCodes { to_client: None, to_backend: None });
}

// Requirements: FB08.
async fn backend_eof_closes_the_client_with_1011(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.backend.say(&bare(TEXT, b"bye")).await;
    rig.backend.say_closed().await;
    assert_eq!(rig.client.frame().await.payload, b"bye");
    let close = rig.client.frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1011), false));
    rig.client.say(&masked(CLOSE, &code(1011))).await;
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    assert_eq!(rig.age(), 0);
    assert_eq!(rig.ending().await.end, TerminationReason::BackendGone);
}

// Requirements: FB10.
async fn backend_eof_inside_a_frame(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let frame = bare(BINARY, &[7; 1000]);
    rig.backend.say(&frame[..500]).await;
    rig.backend.say_closed().await;
    let (bytes, _) = rig.client.rest().await;
    assert_eq!(bytes, frame[..500]);
    rig.client.say_closed().await;
    assert_eq!(rig.ending().await.end, TerminationReason::BackendGone);
}

// Requirements: FC31.
async fn client_protocol_error_closes_with_1002(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.client.say(&masked(TEXT, b"good")).await;
    rig.client.say(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(rig.backend.frame().await.payload, b"good");
    let close = rig.backend.frame().await;
    assert_eq!((close.close_code(), close.masked), (Some(1001), true));
    assert_eq!(rig.client.frame().await.close_code(), Some(1002));
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    let ending = rig.ending().await;
    assert!(matches!(ending.end, TerminationReason::Breach(Side::Client, _)), "{ending:?}");
}

async fn a_message_is_too_big(over: Over) {
    let mut setup = Setup::default();
    setup.terms.from_client.message = Some(Limit::close(1000));
    let mut rig = Rig::new(over, setup).await;
    rig.client.say(&[masked(TEXT, b"small"), masked(BINARY, &[7; 1001])].concat()).await;
    assert_eq!(rig.backend.frame().await.payload, b"small");
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    assert_eq!(rig.client.frame().await.close_code(), Some(1009));
    rig.client.say(&masked(CLOSE, &code(1009))).await;
    rig.client.say_closed().await;
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::Over(Side::Client, LimitKind::Message));
    assert_eq!(ending.tally.up.messages, 1);
}

// Requirements: F13.
async fn drain_waits_for_the_frame_in_progress(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    let large = masked(BINARY, &[7; 100_000]);
    let (first, second) = large.split_at(50_000);
    rig.client.say(first).await;
    assert!(rig.backend.hear(first.len()).await == first);
    rig.orders.send(leave()).await.unwrap();
    // The other direction is between frames.
    assert_eq!(rig.client.frame().await.close_code(), Some(1012));
    // The answer comes behind the frame; what follows in the same write goes nowhere.
    rig.client.say(&[second, &masked(CLOSE, &code(1012))].concat()).await;
    assert!(rig.backend.hear(second.len()).await == second);
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    rig.client.ends_clean().await;
    rig.client.say_closed().await;
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    assert_eq!(rig.age(), 0);
    let ending = rig.ending().await;
    assert_eq!(ending.end, TerminationReason::Drained);
    assert_eq!(ending.closes, CloseCodes { to_client: Some(1012), to_backend: Some(1001) });
}

async fn a_cut_drops_both(over: Over) {
    let mut rig = Rig::new(over, Setup::default()).await;
    rig.orders.send(leave()).await.unwrap();
    assert_eq!(rig.client.frame().await.close_code(), Some(1012));
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    rig.orders.send(Command::Cut).await.unwrap();
    rig.client.ends_cut().await;
    rig.backend.ends_cut().await;
    assert_eq!(rig.age(), 0);
    assert_eq!(rig.ending().await.end, TerminationReason::Drained);
}

async fn the_end_comes_as_soon_as_the_last_byte_is_taken(over: Over) {
    let mut rig = Rig::new(over, Setup { room: 4096, ..Setup::default() }).await;
    let last = [bare(BINARY, &[7; 6000]), bare(CLOSE, &code(1000))].concat();
    rig.client.say(&masked(CLOSE, &code(1000))).await;
    rig.client.say_closed().await;
    assert_eq!(rig.backend.frame().await.close_code(), Some(1000));
    rig.backend.say(&last).await;
    rig.backend.say_closed().await;
    // All is said, but the client has not taken all of it.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!rig.is_over());
    let (bytes, farewell) = rig.client.rest().await;
    assert!(bytes == last);
    assert_ne!(farewell, Farewell::Cut);
    rig.backend.ends_clean().await;
    assert_eq!(rig.ending_by(1).await.end, TerminationReason::ClientClosed);
}

fn scripts(rig: &Rig) -> [crate::net::scripted::Script; 2] {
    use super::rig::Far;
    let (Far::Script(client, _), Far::Script(backend, _)) = (&rig.client, &rig.backend) else {
        panic!("only over scripts");
    };
    [client.clone(), backend.clone()]
}

// Requirements: TC12.
#[tokio::test(start_paused = true)]
async fn data_before_a_reset_is_delivered() {
    let mut rig = Rig::new(Over::Script, Setup::default()).await;
    let [client, _] = scripts(&rig);
    client.say(&masked(TEXT, b"last"));
    client.fail(io::ErrorKind::ConnectionReset);
    assert_eq!(rig.backend.frame().await.payload, b"last");
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    rig.backend.say_closed().await;
    assert_eq!(rig.ending().await.end, TerminationReason::ClientGone);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_the_end_of_that_side() {
    let mut rig = Rig::new(Over::Script, Setup::default()).await;
    let [client, _] = scripts(&rig);
    client.turn_deaf(io::ErrorKind::BrokenPipe);
    rig.backend.say(&bare(TEXT, b"anyone?")).await;
    assert_eq!(rig.backend.frame().await.close_code(), Some(1001));
    soon(client.until(|state| state.aborted && state.dropped)).await;
    rig.backend.say(&bare(CLOSE, &code(1001))).await;
    rig.backend.say_closed().await;
    assert_eq!(rig.age(), 0);
    let ending = rig.ending().await;
    assert_eq!((ending.end, ending.tally.down.messages), (TerminationReason::ClientGone, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_may_still_have_said_goodbye() {
    let mut rig = Rig::new(Over::Script, Setup::default()).await;
    let [client, backend] = scripts(&rig);
    // The backend is slow, so the client's last words wait in its socket.
    backend.allow(0);
    rig.client.say(&masked(TEXT, b"first")).await;
    soon(backend.until(|state| !state.waiting.is_empty())).await;
    rig.client.say(&[masked(TEXT, b"last"), masked(CLOSE, &code(1000))].concat()).await;
    client.turn_deaf(io::ErrorKind::BrokenPipe);
    rig.backend.say(&bare(TEXT, b"anyone?")).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    backend.allow(usize::MAX);
    assert_eq!(rig.backend.frame().await.payload, b"first");
    assert_eq!(rig.backend.frame().await.payload, b"last");
    assert_eq!(rig.backend.frame().await.close_code(), Some(1000));
    rig.backend.say(&bare(CLOSE, &code(1000))).await;
    rig.backend.say_closed().await;
    let ending = rig.ending().await;
    // What nobody could be given does not count as relayed.
    assert_eq!((ending.end, ending.tally.down.messages), (TerminationReason::ClientClosed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_came_with_the_heads_is_enough() {
    let early = EarlyBytes {
        from_client: masked(CLOSE, &code(1000)).into(),
        from_backend: bare(TEXT, b"welcome").into(),
    };
    let mut rig = Rig::new(Over::Script, Setup { early, ..Setup::default() }).await;
    rig.backend.say(&bare(CLOSE, &code(1000))).await;
    rig.backend.say_closed().await;
    rig.client.say_closed().await;
    let (bytes, _) = rig.client.rest().await;
    let frames = read_all(&bytes);
    assert_eq!(frames[0].payload, b"welcome");
    assert_eq!(frames[1].close_code(), Some(1000));
    assert_eq!(rig.ending().await.end, TerminationReason::ClientClosed);
}

#[tokio::test]
async fn a_cut_resets_tcp_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut fars = Vec::new();
    let mut nears = Vec::new();
    for _ in 0..2 {
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        fars.push(far.unwrap());
        nears.push(PlainStream::new(near.unwrap().0));
    }
    let (orders, control) = mpsc::channel(1);
    orders.send(Command::Cut).await.unwrap();
    let (client, backend) = (nears.remove(0), nears.remove(0));
    let session = session(Setup::default().terms);
    let early = EarlyBytes::default();
    let ending = Tunnel::new(client, backend, session, early, Orders(control), Counter(0)).await;
    assert_eq!(ending.end, TerminationReason::Aborted);
    for far in &mut fars {
        let error = far.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
