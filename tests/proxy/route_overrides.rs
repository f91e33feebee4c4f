//! Timeouts and the drain's close code of a single route, and warnings about clients for which a
//! limit is too low.

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use crate::support::{
    Backend, Client, HANDSHAKE, Proxy, Side, TestBed, close_after_violation, close_normally,
    read_to_end, route, wire, within_timeout,
};

#[tokio::test]
async fn drain_code_of_a_route_reaches_its_clients() {
    let bed = TestBed::with(
        "[route.drain]\ncode = 1001\nreason = \"moving\"\n[drain]\nwindow = \"100ms\"\n",
    )
    .await;
    let (mut client, mut backend) = bed.open().await;
    bed.proxy.signal(Signal::TERM);
    let close = wire::read(&mut client).await.unwrap();
    assert_eq!((close.code(), &close.payload[2..]), (1001, &b"moving"[..]));
    client.write_all(&wire::masked(0x80 | wire::CLOSE, &close.payload)).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1001);
    backend.write_all(&wire::unmasked(0x80 | wire::CLOSE, &close.payload)).await.unwrap();
    assert_eq!(bed.tunnel_end(1).await["end"], "drained");
}

#[tokio::test]
async fn response_timeout_of_a_route_replaces_the_common_one() {
    let silent = Backend::raw(|_, mut stream, _| async move {
        read_to_end(&mut stream).await;
    })
    .await;
    let more =
        "[route.timeouts]\nresponse_header = \"200ms\"\n[timeouts]\nresponse_header = \"1h\"\n";
    let proxy = Proxy::start(&route(&[silent.address], more)).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 504);
    let record = proxy.end_record("response_timeout").await;
    assert_eq!(record["value"], "200ms");
}

#[tokio::test]
async fn large_message_in_small_frames_passes_by_default() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    let frames = 5 * 256;
    let sending = async {
        for n in 0..frames {
            let opcode = if n == 0 { wire::BINARY } else { wire::CONTINUATION };
            let fin = if n == frames - 1 { 0x80 } else { 0 };
            client.write_all(&wire::masked(fin | opcode, &[7; 4096])).await.unwrap();
        }
        client
    };
    let receiving = async {
        for _ in 0..frames {
            assert_eq!(wire::read(&mut backend).await.unwrap().payload.len(), 4096);
        }
        backend
    };
    let (client, backend) =
        within_timeout("5 MiB to arrive", async { tokio::join!(sending, receiving) }).await;
    close_normally(client, backend).await;
    assert_eq!(bed.tunnel_end(1).await["up_messages"], 1);
}

#[tokio::test]
async fn client_that_repeats_its_end_is_logged_once() {
    let bed = TestBed::with("[limits]\nmessage_from_client = \"1KiB\"\n").await;
    for session in 1..=7 {
        let (mut client, mut backend) = bed.open().await;
        client.write_all(&wire::masked(0x80 | wire::BINARY, &[7; 1025])).await.unwrap();
        let (close, _) = close_after_violation(Side::Client, &mut client, &mut backend).await;
        assert_eq!(close.code(), 1009);
        drop(client);
        bed.tunnel_end(session).await;
    }
    let warnings: Vec<_> = bed
        .proxy
        .records()
        .into_iter()
        .filter(|record| {
            record["message"]
                .as_str()
                .unwrap_or("")
                .starts_with("tunnels of this client closed 5 times")
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let warning = &warnings[0];
    assert_eq!(
        [
            &warning["route"],
            &warning["target"],
            &warning["end"],
            &warning["key"],
            &warning["value"]
        ],
        ["all", "/ws", "message_too_big", "limits.message_from_client", "1KiB"]
    );
    assert_eq!(warning["size"], 1025);
}

#[tokio::test]
async fn client_near_its_limit_of_tunnels_is_logged_once() {
    let bed = TestBed::with("[concurrency]\ntunnels_per_client = 20\n").await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(bed.open().await);
    }
    let near = |record: &crate::support::Record| record["tunnels"] == 16 && record["limit"] == 20;
    let warning = bed.proxy.record("the warning", near).await;
    assert_eq!(warning["key"], "concurrency.tunnels_per_client");
    assert_eq!(bed.proxy.records().iter().filter(|record| near(record)).count(), 1);
}
