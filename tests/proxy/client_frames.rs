//! Invalid frames of a client: it gets the matching close code, its backend gets 1001, and the
//! record gives the reason. Also unusual frames that are valid.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    InvalidFrames, PlainStream, Side, TestBed, assert_relays, check_invalid_frames,
    close_after_violation, close_normally, read_to_end, reset, wait_until_client_data_processed,
    wire, within_timeout,
};

/// A limit small enough to be exceeded in one write.
const LIMITS: &str = "[limits]\nmessage_from_client = \"1000B\"\n";

// Requirements: FC01, FC02, FC03, FC04, FC05, FC11, FC13, FC20, FC21, FC22, FC31, F32.
#[tokio::test]
async fn invalid_frames_close_both_sides() {
    check_invalid_frames(Side::Client, invalid_frames()).await;
}

fn invalid_frames() -> Vec<InvalidFrames> {
    let masked = wire::masked;
    let close = |payload: &[u8]| masked(0x80 | wire::CLOSE, payload);
    let unmasked = [0x81, 0x88, 0x8a].map(|first| wire::unmasked(first, b""));
    let bits = [0xc1, 0xa1, 0x91, 0xf2, 0xc9].map(|first| masked(first, b""));
    let opcodes = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|op| masked(0x80 | op, b""));
    let lengths: [&[u8]; 4] = [
        &[0xfe, 0, 10],
        &[0xff, 0, 0, 0, 0, 0, 0, 0x03, 0xe8],
        &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 9],
    ];
    let lengths = lengths.map(|length| [&[0x82], length, &[1, 2, 3, 4]].concat());
    let strays = [0x80, 0x00].map(|first| masked(first, b"stray"));
    let long = [0x89, 0x8a].map(|first| masked(first, &[0; 126]));
    let split = [wire::PING, wire::PONG, wire::CLOSE].map(|first| masked(first, b""));
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535];
    let codes = codes.map(|code| close(&wire::close(code, "why")));
    let reasons = [&b"\xc3\x28"[..], b"\xed\xa0\x80"].map(|bad| [b"\x03\xe8", bad].concat());
    // FC31: the client speaks HTTP on the tunnel.
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    vec![
        ("ws_unmasked", 1002, unmasked.into()),
        ("ws_rsv", 1002, bits.into()),
        ("ws_opcode", 1002, opcodes.into()),
        ("ws_opcode", 1002, vec![http]),
        ("ws_length", 1002, lengths.into()),
        ("ws_continuation", 1002, strays.into()),
        ("ws_control", 1002, long.into()),
        ("ws_control", 1002, split.into()),
        ("ws_close", 1002, vec![close(&[3])]),
        ("ws_close", 1002, codes.into()),
        ("ws_close", 1007, reasons.map(|payload| close(&payload)).into()),
    ]
}

// Requirements: FC12.
#[tokio::test]
async fn interleaved_message_closes_with_1002() {
    let bed = TestBed::with("").await;
    for opcode in [wire::TEXT, wire::BINARY] {
        let (mut client, mut backend) = bed.open_secure().await;
        let sent = [wire::masked(wire::TEXT, b"begin"), wire::masked(0x80 | opcode, b"again")];
        client.write_all(&sent.concat()).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"begin");
        let closes = close_after_violation(Side::Client, &mut client, &mut backend).await;
        assert_eq!((closes.0.code(), closes.1.code()), (1002, 1001));
    }
    assert_eq!(bed.tunnel_end(1).await["end"], "ws_continuation");
}

// Requirements: FC06, FC07, FC08.
#[tokio::test]
async fn oversized_message_is_rejected_at_its_header() {
    let bed = TestBed::with(LIMITS).await;
    let masked = wire::masked;
    let header = |length| [wire::header(0x82, 0x80, length), vec![0; 4]].concat();
    let fits = |frames: &[Vec<u8>]| frames.concat();
    let cases = [
        (vec![], header(1001)),
        (vec![], header(1 << 62)),
        (vec![], header((1 << 63) - 1)),
        (fits(&[masked(wire::TEXT, &[b'x'; 1000])]), wire::masked(0x80, b"y")),
        (
            fits(&[masked(wire::TEXT, b"1"), masked(0, &[b'x'; 998]), masked(0x89, b"ping")]),
            // The header alone decides: the payload is never sent.
            [wire::header(0, 0x80, 2), vec![0; 4]].concat(),
        ),
        // The sum of the lengths must not overflow.
        (
            fits(&[masked(wire::TEXT, b"1")]),
            [wire::header(0, 0x80, (1 << 63) - 1), vec![0; 4]].concat(),
        ),
    ];
    for (session, (passes, crosses)) in (1..).zip(cases) {
        let (mut client, mut backend) = bed.open().await;
        client.write_all(&[&passes[..], &crosses].concat()).await.unwrap();
        let mut got = vec![0; passes.len()];
        within_timeout("what fits", backend.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, passes);
        let closes = close_after_violation(Side::Client, &mut client, &mut backend).await;
        assert_eq!((closes.0.code(), closes.1.code()), (1009, 1001));
        drop((client, backend));
        let record = bed.tunnel_end(session).await;
        assert_eq!(record["end"], "message_too_big");
        assert_eq!(record["by"], "client");
        assert_eq!(record["key"], "limits.message_from_client");
        assert_eq!(record["value"], "1000B");
        assert_eq!(
            (&record["close_client"], &record["close_backend"]),
            (&1009.into(), &1001.into())
        );
        assert_eq!(
            (&record["up_bytes"], &record["up_messages"]),
            (&passes.len().into(), &0.into())
        );
    }
}

// Requirements: FC07.
#[tokio::test]
async fn messages_at_the_limit_pass() {
    let bed = TestBed::with(LIMITS).await;
    let (mut client, mut backend) = bed.open().await;
    let message = [
        wire::masked(wire::BINARY, &[1; 500]),
        wire::masked(0x80 | wire::PING, &[2; 125]),
        wire::masked(wire::CONTINUATION, b""),
        wire::masked(wire::CONTINUATION, &[3; 499]),
        wire::masked(0x80 | wire::CONTINUATION, &[4; 1]),
        wire::masked(0x80 | wire::BINARY, &[5; 1000]),
    ]
    .concat();
    for _ in 0..3 {
        client.write_all(&message).await.unwrap();
        let mut got = vec![0; message.len()];
        within_timeout("the messages", backend.read_exact(&mut got)).await.unwrap();
        assert!(got == message);
    }
    // The other direction has no limit by default.
    backend.write_all(&wire::unmasked(0x82, &[6; 100_000])).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().payload.len(), 100_000);
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(1).await["up_messages"], 6);
}

// Requirements: FC06.
#[tokio::test]
async fn oversized_sender_can_read_the_close() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1MiB\"\n").await;
    for secure in [false, true] {
        let message = wire::masked(0x82, &vec![7; 8 << 20]);
        let (close, _) = if secure {
            let (mut client, mut backend) = bed.open_secure().await;
            client.write_all(&message).await.unwrap();
            client.flush().await.unwrap();
            close_after_violation(Side::Client, &mut client, &mut backend).await
        } else {
            let (mut client, mut backend) = bed.open().await;
            client.write_all(&message).await.unwrap();
            close_after_violation(Side::Client, &mut client, &mut backend).await
        };
        assert_eq!(close.code(), 1009);
    }
    let record = bed.tunnel_end(1).await;
    assert_eq!((&record["end"], &record["value"]), (&"message_too_big".into(), &"1MiB".into()));
}

// Requirements: F22.
#[tokio::test]
async fn close_arrives_despite_data_after_an_error() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let garbage: Vec<u8> =
        (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.write_all(&wire::masked(0x83, b"opcode 3")).await.unwrap();
    client.write_all(&garbage).await.unwrap();
    let closes = close_after_violation(Side::Client, &mut client, &mut backend).await;
    assert_eq!((closes.0.code(), closes.1.code()), (1002, 1001));
    drop((client, backend));
    assert_eq!(bed.tunnel_end(1).await["up_bytes"], 0);
}

// Requirements: FC16, FC32, FC35.
#[tokio::test]
async fn unusual_valid_frames_pass() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let mut zero_key = wire::header(0x81, 0x80, 5);
    zero_key.extend([0, 0, 0, 0]);
    zero_key.extend(b"FC35!");
    let odd = [
        zero_key,
        wire::masked(0x80 | wire::TEXT, b"FC32: \xff\xfe\xc3\x28"),
        wire::masked(0x80 | wire::PONG, b"FC16: never asked"),
        wire::masked(0x80 | wire::PONG, &[0; 8]),
        wire::masked(0x80 | wire::TEXT, b""),
        wire::masked(wire::TEXT, b""),
        wire::masked(0x80 | wire::CONTINUATION, b""),
        wire::masked(0x80 | wire::PING, &[0; 125]),
    ]
    .concat();
    client.write_all(&odd).await.unwrap();
    let mut got = vec![0; odd.len()];
    within_timeout("odd frames", backend.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, odd);
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: FC30.
#[tokio::test]
async fn eof_within_a_frame_sends_the_backend_no_close() {
    let bed = TestBed::with("").await;
    let frame = wire::masked(0x80 | wire::BINARY, &[1; 1000]);
    for session in 1..=4 {
        let (mut client, mut backend) = bed.open().await;
        client.write_all(&frame[..600]).await.unwrap();
        let mut got = vec![0; 600];
        within_timeout("a part", backend.read_exact(&mut got)).await.unwrap();
        if session % 2 == 0 {
            reset(client)
        } else {
            drop(client)
        }
        assert_eq!(read_to_end(&mut backend).await, b"", "no Close inside a frame");
        drop(backend);
        let record = bed.tunnel_end(session).await;
        assert_eq!(
            (&record["end"], &record["by"]),
            (&"client_disconnected".into(), &"client".into())
        );
        assert!(record["close_backend"].is_null() && record["close_client"].is_null());
        assert_eq!((&record["up_bytes"], &record["up_messages"]), (&600.into(), &0.into()));
    }
}

#[tokio::test]
async fn client_eof_or_reset_closes_backend_1001() {
    let bed = TestBed::with("").await;
    // Between frames, inside a header (of which nothing was relayed), inside a control frame.
    let pieces: [&[u8]; 4] = [b"", b"\x82", b"\x82\xfe\x10", b"\x89\x85\x01\x02\x03\x04abc"];
    for (index, piece) in pieces.into_iter().cycle().take(8).enumerate() {
        let (mut client, mut backend) = bed.open().await;
        assert_relays(&mut client, &mut backend).await;
        client.write_all(piece).await.unwrap();
        wait_until_client_data_processed(&mut client, &mut backend).await;
        if index < 4 {
            drop(client)
        } else {
            reset(client)
        }
        let received = wire::read(&mut backend).await.unwrap();
        assert_eq!((received.code(), received.masked), (1001, true), "{piece:?}");
        drop(backend);
        let record = bed.tunnel_end(index + 1).await;
        assert_eq!(
            (&record["end"], &record["by"]),
            (&"client_disconnected".into(), &"client".into())
        );
        assert_eq!((&record["close_backend"], &record["close_client"]), (&1001.into(), &().into()));
    }
}

#[tokio::test]
async fn protocol_error_only_ends_its_tunnel() {
    let bed = TestBed::with(LIMITS).await;
    let mut others: Vec<(PlainStream, PlainStream)> = Vec::new();
    for _ in 0..10 {
        others.push(bed.open().await);
    }
    for n in 0..50 {
        let (mut client, mut backend) = bed.open().await;
        let bad = [wire::unmasked(0x81, b"no mask"), wire::masked(0x82, &[0; 1001])];
        client.write_all(&bad[n % 2]).await.unwrap();
        let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
        assert_eq!(close.code(), [1002, 1009][n % 2]);
        let (client, backend) = &mut others[n % 10];
        assert_relays(client, backend).await;
    }
}
