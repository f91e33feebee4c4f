//! Invalid frames of a backend, and backends that disconnect: the backend gets the matching close
//! code, the client 1013, or 1012 after the end of the stream, and a partial frame never becomes a complete one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    InvalidFrames, Side, TestBed, assert_relays, check_invalid_frames, close_after_violation,
    close_normally, read_to_end, reset, wait_until_client_data_processed, wire, within_timeout,
};

// Requirements: FB01, FB02, FB07, F32.
#[tokio::test]
async fn invalid_frames_close_both_sides() {
    check_invalid_frames(Side::Backend, invalid_frames()).await;
}

fn invalid_frames() -> Vec<InvalidFrames> {
    let bare = wire::unmasked;
    let close = |payload: &[u8]| bare(0x80 | wire::CLOSE, payload);
    let masked = [0x81, 0x88, 0x89].map(|first| wire::masked(first, b""));
    let bits = [0xc1, 0xa1, 0x91, 0xca].map(|first| bare(first, b""));
    let opcodes = [0x83, 0x87, 0x8b, 0x8f].map(|first| bare(first, b""));
    let lengths: [&[u8]; 3] = [
        &[0x82, 0x7e, 0, 125],
        &[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &[0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0],
    ];
    let strays = [0x80, 0x00].map(|first| bare(first, b"stray"));
    let control = [vec![0x89, 0x7e, 0, 126], bare(wire::PONG, b"")];
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000];
    let codes = codes.map(|code| close(&wire::close(code, "")));
    vec![
        ("ws_masked", 1002, masked.into()),
        ("ws_rsv", 1002, bits.into()),
        ("ws_rsv", 1002, vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()]),
        ("ws_opcode", 1002, opcodes.into()),
        ("ws_length", 1002, lengths.map(<[u8]>::to_vec).into()),
        ("ws_continuation", 1002, strays.into()),
        ("ws_control", 1002, control.into()),
        ("ws_close", 1002, vec![close(&[3])]),
        ("ws_close", 1002, codes.into()),
        ("ws_close", 1007, vec![close(b"\x03\xe8\xff")]),
    ]
}

// Requirements: FB03.
#[tokio::test]
async fn oversized_message_closes_both_sides() {
    let bed = TestBed::with("[limits]\nmessage_from_backend = \"2KiB\"\n").await;
    let fits = wire::unmasked(0x82, &[1; 2048]);
    let cases = [
        (vec![], wire::header(0x82, 0, 2049)),
        (vec![], wire::header(0x82, 0, 1 << 62)),
        (wire::unmasked(wire::TEXT, &[b'x'; 2048]), wire::header(0x80, 0, 1)),
    ];
    for (session, (passes, crosses)) in (1..).zip(cases) {
        let (mut client, mut backend) = bed.open_secure().await;
        backend.write_all(&[&fits[..], &passes, &crosses].concat()).await.unwrap();
        let mut got = vec![0; fits.len() + passes.len()];
        within_timeout("what fits", client.read_exact(&mut got)).await.unwrap();
        assert!(got == [&fits[..], &passes].concat());
        let closes = close_after_violation(Side::Backend, &mut backend, &mut client).await;
        assert_eq!((closes.0.code(), closes.1.code()), (1009, 1013));
        drop((client, backend));
        let record = bed.tunnel_end(session).await;
        assert_eq!((&record["end"], &record["by"]), (&"message_too_big".into(), &"backend".into()));
        assert_eq!(record["key"], "limits.message_from_backend");
        assert_eq!(record["value"], "2KiB");
    }
}

// Requirements: FB08, FB09.
#[tokio::test]
async fn backend_eof_or_reset_closes_client_1012() {
    let bed = TestBed::with("").await;
    // Between frames, inside a header, inside a control frame: no part of it was relayed.
    let pieces: [&[u8]; 4] = [b"", b"\x82", b"\x82\x7e\x10", b"\x89\x05abc"];
    for (index, piece) in pieces.into_iter().cycle().take(8).enumerate() {
        let (mut client, mut backend) = bed.open_secure().await;
        assert_relays(&mut client, &mut backend).await;
        backend.write_all(piece).await.unwrap();
        client.write_all(&wire::masked(0x80 | wire::TEXT, b"barrier")).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"barrier");
        if index < 4 {
            drop(backend)
        } else {
            reset(backend)
        }
        let received = wire::read(&mut client).await.unwrap();
        assert_eq!((received.code(), received.masked), (1012, false), "{piece:?}");
        drop(client);
        let record = bed.tunnel_end(index + 1).await;
        assert_eq!(
            (&record["end"], &record["by"]),
            (&"backend_disconnected".into(), &"backend".into())
        );
        assert_eq!((&record["close_client"], &record["close_backend"]), (&1012.into(), &().into()));
    }
}

// Requirements: FB10.
#[tokio::test]
async fn eof_within_a_frame_completes_nothing() {
    let bed = TestBed::with("").await;
    let frame = wire::unmasked(0x80 | wire::BINARY, &[1; 1000]);
    for session in 1..=4 {
        let (mut client, mut backend) = bed.open_secure().await;
        backend.write_all(&frame[..600]).await.unwrap();
        let mut got = vec![0; 600];
        within_timeout("a part", client.read_exact(&mut got)).await.unwrap();
        if session % 2 == 0 {
            reset(backend)
        } else {
            drop(backend)
        }
        assert_eq!(read_to_end(&mut client).await, b"", "no Close inside a frame");
        drop(client);
        let record = bed.tunnel_end(session).await;
        assert_eq!(
            (&record["end"], &record["by"]),
            (&"backend_disconnected".into(), &"backend".into())
        );
        assert!(record["close_backend"].is_null() && record["close_client"].is_null());
        assert_eq!(record["down_bytes"], 600);
    }
}

#[tokio::test]
async fn close_waits_for_the_frame_in_progress() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let frame = wire::unmasked(0x80 | wire::BINARY, &[1; 100_000]);
    backend.write_all(&frame[..50_000]).await.unwrap();
    let mut first = vec![0; 50_000];
    within_timeout("half a frame", client.read_exact(&mut first)).await.unwrap();
    client.write_all(&wire::unmasked(0x81, b"no mask")).await.unwrap();
    // A frame towards the side at fault is in progress; a Close inside it would be payload (RFC
    // 6455 5.4).
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    backend.write_all(&frame[50_000..]).await.unwrap();
    let mut second = vec![0; frame.len() - 50_000];
    within_timeout("the other half", client.read_exact(&mut second)).await.unwrap();
    assert!([first, second].concat() == frame);
    backend.write_all(&wire::unmasked(0x80 | wire::CLOSE, &wire::close(1001, ""))).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1002);
    assert_eq!(read_to_end(&mut client).await, b"");
}

// Requirements: FC26, FB06.
#[tokio::test]
async fn close_frames_pass_unchanged() {
    let bed = TestBed::with("").await;
    let long = "r".repeat(123);
    let mut sent: Vec<Vec<u8>> = vec![vec![]];
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in codes.into_iter().chain([3000, 3999, 4000, 4999]) {
        sent.push(wire::close(code, ""));
        sent.push(wire::close(code, &long));
    }
    sent.push(wire::close(4001, "auf Wiedersehen, \u{1f30a}"));
    let close = 0x80 | wire::CLOSE;
    for (index, payload) in sent.iter().enumerate() {
        let (mut client, mut backend) = bed.open().await;
        backend.write_all(&wire::unmasked(close, payload)).await.unwrap();
        let received = wire::read(&mut client).await.unwrap();
        assert_eq!((received.first, &received.payload, received.masked), (close, payload, false));
        client.write_all(&wire::masked(close, payload)).await.unwrap();
        let received = wire::read(&mut backend).await.unwrap();
        assert_eq!((received.first, &received.payload, received.masked), (close, payload, true));
        let code = received.code();
        drop((client, backend));
        let record = bed.tunnel_end(index + 1).await;
        assert_eq!((&record["end"], &record["by"]), (&"backend_closed".into(), &"backend".into()));
        assert_eq!(
            (&record["close_client"], &record["close_backend"]),
            (&code.into(), &code.into())
        );
    }
}

#[tokio::test]
async fn killed_backend_only_ends_its_own_tunnels() {
    let (bed, other) = tokio::join!(TestBed::with(""), TestBed::with(""));
    let (mut unaffected, mut unaffected_backend) = other.open().await;
    let mut tunnels = Vec::new();
    for _ in 0..30 {
        tunnels.push(bed.open().await);
    }
    // SIGKILL: connections with unread data are reset, others get a FIN.
    for (index, (client, backend)) in tunnels.iter_mut().enumerate() {
        if index % 2 == 0 {
            client.write_all(&wire::masked(0x81, b"unread")).await.unwrap();
            wait_until_client_data_processed(client, backend).await;
        }
    }
    let (clients, backends): (Vec<_>, Vec<_>) = tunnels.into_iter().unzip();
    drop(backends);
    for mut client in clients {
        assert_eq!(wire::read(&mut client).await.unwrap().code(), 1012);
    }
    assert_relays(&mut unaffected, &mut unaffected_backend).await;
    close_normally(unaffected, unaffected_backend).await;
    bed.proxy.wait_until_idle().await;
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
}
