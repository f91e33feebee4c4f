//! The core compared with tungstenite: its frames pass verbatim, both reject the same violations of
//! RFC 6455, and it accepts the frames the core injects.
//!
//! Not compared: lengths that are not in shortest form and invalid close codes, which tungstenite
//! accepts, and UTF-8 in text messages, which only tungstenite checks.

use std::io::{Cursor, Read, Result, Write};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};
use ws::{
    Entropy, MessageSizes, RecvAction, Session, SessionClose, SessionPolicy, Side,
    TerminationReason, Timestamp,
};

use crate::reference::frame;
use crate::script::Script;

/// A socket with all of its input available.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        self.input.read(bytes)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// The bytes the core relays, and why the session ended.
fn relayed(from: Side, mut input: &[u8]) -> (Vec<u8>, Option<TerminationReason>) {
    let mut session = session();
    let mut out = Vec::new();
    while !input.is_empty() {
        let (len, passes) = match session.handle_recv(
            from,
            input,
            Timestamp::START,
            &mut MessageSizes::default(),
        ) {
            RecvAction::Forward(len) => (len, true),
            RecvAction::Discard(len) => (len, false),
            RecvAction::Incomplete | RecvAction::Paused => break,
        };
        out.extend(&input[..if passes { len } else { 0 }]);
        input = &input[len..];
    }
    (out, session.termination())
}

fn session() -> Session {
    // No option set: no limits, timers or compression.
    let (terms, deflate, _) = Script::read(&[0]);
    Session::new(Arc::new(terms), deflate, Duration::ZERO, &mut Zeroes)
}

fn socket(role: Role, input: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe { input: Cursor::new(input), output: Vec::new() };
    WebSocket::from_raw_socket(pipe, role, None)
}

/// Whether tungstenite, as the other side, rejects the bytes.
fn is_rejected_by_tungstenite(from: Side, input: &[u8]) -> bool {
    let role = match from {
        Side::Client => Role::Server,
        Side::Backend => Role::Client,
    };
    let mut socket = socket(role, input.to_vec());
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => return false,
            Ok(_) => {}
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return false,
            Err(Error::Protocol(_) | Error::Utf8(_)) => return true,
            Err(other) => unreachable!("{other}"),
        }
    }
}

/// A message for tungstenite to write: whole, fragmented around a ping, or a control frame.
fn message() -> impl Strategy<Value = Vec<Message>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        (65_530usize..65_540).prop_map(|len| vec![7; len]),
    ];
    (payload, 0..5u8).prop_map(|(payload, kind)| {
        let short = payload[..payload.len().min(125)].to_vec();
        let fragment = |payload: &[u8], opcode, fin| {
            Message::Frame(Frame::message(payload.to_vec(), OpCode::Data(opcode), fin))
        };
        match kind {
            0 => vec![Message::binary(payload)],
            1 => vec![Message::text("é".repeat(payload.len()))],
            2 => vec![Message::Ping(short.into())],
            3 => vec![Message::Pong(short.into())],
            _ => {
                let (one, two) = payload.split_at(payload.len() / 2);
                vec![
                    fragment(one, Data::Binary, false),
                    Message::Ping(short.into()),
                    fragment(two, Data::Continue, true),
                ]
            }
        }
    })
}

/// A frame of a side, valid or nearly so.
fn any_frame(from: Side) -> impl Strategy<Value = Vec<u8>> {
    let valid = prop::sample::select(vec![0x01, 0x80, 0x00, 0x81, 0x82, 0x88, 0x89, 0x8a]);
    let first = prop_oneof![9 => valid, 1 => any::<u8>()];
    let sender = prop_oneof![19 => Just(from), 1 => Just(from.other())];
    let len = prop::sample::select(vec![0, 1, 2, 50, 124, 125, 126, 127, 300]);
    (first, sender, len, any::<bool>()).prop_map(|(first, sender, len, odd)| {
        let mut payload = vec![b'x'; len];
        if first & 0x0f == u8::from(OpCode::Control(Control::Close)) && len >= 2 {
            payload[..2].copy_from_slice(&1000u16.to_be_bytes());
            payload[len - 1] = if odd && len > 2 { 0xff } else { payload[len - 1] };
        }
        frame(sender, first, &payload)
    })
}

fn side() -> impl Strategy<Value = Side> {
    prop::sample::select(Side::BOTH.to_vec())
}

proptest! {
    #[test]
    fn frames_written_by_tungstenite_pass_verbatim(
        from in side(),
        messages in prop::collection::vec(message(), 1..6),
        closes in any::<bool>(),
    ) {
        let role = if from == Side::Client { Role::Client } else { Role::Server };
        let mut socket = socket(role, Vec::new());
        for message in messages.into_iter().flatten() {
            socket.send(message).expect("written");
        }
        if closes {
            let close = CloseFrame { code: 4000.into(), reason: "bye".into() };
            socket.close(Some(close)).expect("written");
        }
        let written = &socket.get_ref().output;
        let end = match from {
            Side::Client => TerminationReason::ClientClosed,
            Side::Backend => TerminationReason::BackendClosed,
        };
        prop_assert_eq!(relayed(from, written), (written.clone(), closes.then_some(end)));
    }

    #[test]
    fn both_reject_the_same_frames(
        (from, frames) in side().prop_flat_map(|from| {
            (Just(from), prop::collection::vec(any_frame(from), 1..6))
        }),
    ) {
        let input = frames.concat();
        let rejected = matches!(relayed(from, &input).1, Some(TerminationReason::ProtocolError(..)));
        prop_assert_eq!(rejected, is_rejected_by_tungstenite(from, &input));
    }
}

#[test]
fn tungstenite_accepts_our_close_frames() {
    let mut session = session();
    session.close(&SessionClose::new(TerminationReason::Drained), Timestamp::START);
    for (to, role, code, reason) in [
        (Side::Client, Role::Client, 1012, "the service restarts"),
        (Side::Backend, Role::Server, 1001, ""),
    ] {
        let close = session.poll_control(to, Timestamp::START, &mut Zeroes).expect("a Close");
        let read = socket(role, close.as_bytes().to_vec()).read().expect("a valid frame");
        let Message::Close(Some(close)) = read else { unreachable!("{read}") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (code, reason));
    }
}

#[test]
fn tungstenite_pong_is_not_relayed() {
    let (terms, deflate, _) = Script::read(&[8]);
    let heartbeat = terms.heartbeat_client.expect("asked for");
    let now = Timestamp::START;
    let mut session =
        Session::new(Arc::<SessionPolicy>::new(terms), deflate, Duration::ZERO, &mut Zeroes);
    session.handle_timeout(now + heartbeat.interval);
    let ping = session.poll_control(Side::Client, now, &mut Zeroes).expect("a ping");
    let mut client = socket(Role::Client, ping.as_bytes().to_vec());
    client.read().expect("a ping");
    client.flush().expect("the pong");
    let pong = &client.get_ref().output;
    let verdict = session.handle_recv(Side::Client, pong, now, &mut MessageSizes::default());
    assert_eq!(verdict, RecvAction::Discard(pong.len()));
}
