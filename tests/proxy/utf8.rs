//! `utf8 = "check"`: text messages of clients must be UTF-8.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Side, TestBed, close_after_violation, close_normally, read_to_end, wire, within_timeout,
};

const CHECK: &str = "compression = \"strip\"\nutf8 = \"check\"\n";

/// Sequences of RFC 3629 section 3 and of Autobahn's section 6 that are not UTF-8.
const INVALID: [&[u8]; 12] = [
    b"\x80",
    b"\xbf\x80",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc3",
    b"\xe2\x82",
    b"\xfe\xff",
];

// Requirements: FC40.
#[tokio::test]
async fn invalid_text_closes_with_1007() {
    let bed = TestBed::with(CHECK).await;
    for (session, invalid) in (1..).zip(INVALID) {
        let (mut client, mut backend) = bed.open_for(Side::Client).await;
        let valid = wire::masked(0x80 | wire::TEXT, "before: κόσμε".as_bytes());
        let sent = [&valid[..], &wire::masked(0x80 | wire::TEXT, invalid)].concat();
        client.write_all(&sent).await.unwrap();
        assert_eq!(wire::read(&mut backend).await.unwrap().payload, "before: κόσμε".as_bytes());
        let closes = close_after_violation(Side::Client, &mut client, &mut backend).await;
        assert_eq!((closes.0.code(), closes.1.code()), (1007, 1001), "{invalid:x?}");
        assert_eq!(&closes.0.payload[2..], b"text message that is not UTF-8");
        drop((client, backend));
        let record = bed.tunnel_end(session).await;
        assert_eq!([&record["end"], &record["by"]], ["ws_utf8", "client"]);
        assert_eq!([&record["close_client"], &record["up_messages"]], [1007, 1]);
    }
}

// Requirements: FC40.
#[tokio::test]
async fn backend_never_gets_the_invalid_byte() {
    let bed = TestBed::with(CHECK).await;
    let text = [&b"x".repeat(5000)[..], b"\xe2\x82\x28", &b"y".repeat(5000)].concat();
    let frame = wire::masked(0x80 | wire::TEXT, &text);
    let bad = frame.len() - 5001;
    let (mut client, mut backend) = bed.open().await;
    // Up to here it is valid and passes.
    client.write_all(&frame[..bad]).await.unwrap();
    let mut got = vec![0; bad];
    within_timeout("the valid part", backend.read_exact(&mut got)).await.unwrap();
    assert!(got == frame[..bad]);
    client.write_all(&frame[bad..]).await.unwrap();
    assert_eq!(
        read_to_end(&mut backend).await,
        b"",
        "neither the byte nor a Close inside the frame"
    );
    drop(backend);
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1007);
    drop(client);
    let record = bed.tunnel_end(1).await;
    assert_eq!(record["end"], "ws_utf8");
    assert_eq!([&record["up_bytes"], &record["close_backend"]], [&json!(bad), &json!(null)]);
}

// Requirements: FC40.
#[tokio::test]
async fn valid_text_passes_byte_identical() {
    let bed = TestBed::with(CHECK).await;
    let (mut client, mut backend) = bed.open_secure().await;
    let text = "\u{20ac}\u{1f30a}e\u{301}, 7 bit".repeat(2000);
    let mut sent = wire::masked(0x80 | wire::TEXT, text.as_bytes());
    let parts = text.as_bytes().chunks(7).enumerate();
    sent.extend(parts.take(500).flat_map(|(at, part)| {
        wire::masked(if at == 0 { wire::TEXT } else { wire::CONTINUATION }, part)
    }));
    let rest: Vec<u8> = text.bytes().skip(3500).collect();
    sent.extend(wire::masked(0x80 | wire::CONTINUATION, &rest));
    sent.extend(wire::masked(0x80 | wire::BINARY, b"\xff\xfe"));
    let write = async {
        for piece in sent.chunks(1000) {
            client.write_all(piece).await.unwrap();
            client.flush().await.unwrap();
        }
    };
    let mut got = vec![0; sent.len()];
    let (_, read) = tokio::join!(write, within_timeout("all", backend.read_exact(&mut got)));
    read.unwrap();
    assert!(got == sent);
    // The backend's own text is not checked.
    backend.write_all(&wire::unmasked(0x80 | wire::TEXT, b"\xff")).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().payload, b"\xff");
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(1).await["up_messages"], 3);
}

#[tokio::test]
async fn report_mode_lets_invalid_text_pass() {
    let bed = TestBed::with(&format!("{CHECK}strict = \"report\"\n")).await;
    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(0x80 | wire::TEXT, b"\xff")).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().payload, b"\xff");
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(1).await["would_close_client"], json!(["ws_utf8"]));
}
