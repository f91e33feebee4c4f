//! A permit of a concurrency limit is held exactly as long as its tunnel, however that starts or ends.

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use crate::support::{
    Backend, BackendEvent, Client, HANDSHAKE, Proxy, TestBed, assert_relays, close_normally,
    read_response, read_to_end, reset, route, switching_protocols, wire, within_timeout,
};

const ONE: &str = "[concurrency]\ntunnels_per_client = 1\n[limits]\nclose_grace = \"200ms\"\n";

/// The status of another handshake by the same client.
async fn another(bed: &TestBed) -> u16 {
    bed.client.request(HANDSHAKE.as_bytes()).await.status
}

#[tokio::test]
async fn permit_is_released_after_every_ending() {
    let bed = TestBed::with(ONE).await;
    for session in 1..=8 {
        let (mut client, mut backend) = bed.open().await;
        assert_eq!(another(&bed).await, 429);
        // Another client has its own permits.
        let others = bed.open_from([127, 0, 3, session as u8]).await;
        close_normally(others.0, others.1).await;
        assert_relays(&mut client, &mut backend).await;
        match session {
            1 => close_normally(client, backend).await,
            2 => reset(client),
            3 => drop(client),
            4 => reset(backend),
            5 => drop(backend),
            6 => client.write_all(b"no frame").await.unwrap(),
            7 => {
                reset(client);
                reset(backend);
            }
            _ => backend.write_all(b"no frame").await.unwrap(),
        }
        bed.tunnel_end(2 * session - 1).await;
        within_timeout("a free permit", async {
            while bed.proxy.health().await["tunnels"] != 0 {}
        })
        .await;
    }
    let records = bed.proxy.outcomes();
    let full: Vec<_> = records.iter().filter(|record| record["end"] == "client_limit").collect();
    assert_eq!(full.len(), 8);
    assert!(full.iter().all(|record| record["key"] == "concurrency.tunnels_per_client"));
    assert!(full.iter().all(|record| record["value"] == "1" && record["status"] == 429));
}

#[tokio::test]
async fn permit_is_held_until_the_close_completes() {
    let bed = TestBed::with(&ONE.replace("200ms", "1m")).await;
    let (mut client, mut backend) = bed.open().await;
    client.write_all(&wire::masked(0x88, &wire::close(1000, ""))).await.unwrap();
    assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1000);
    // A client that has sent its Close still occupies a backend connection.
    assert_eq!(another(&bed).await, 429);
    backend.write_all(&wire::unmasked(0x88, &wire::close(1000, ""))).await.unwrap();
    assert_eq!(wire::read(&mut client).await.unwrap().code(), 1000);
    drop((client, backend));
    bed.tunnel_end(1).await;
    within_timeout("a free permit", async { while bed.proxy.health().await["tunnels"] != 0 {} })
        .await;
    let (mut client, mut backend) = bed.open().await;
    assert_relays(&mut client, &mut backend).await;
}

// Requirements: UH29.
#[tokio::test]
async fn failed_handshake_releases_its_permit() {
    let backend = Backend::raw(|head, mut stream, events| async move {
        if head.starts_with("GET /no") {
            let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(refusal.as_bytes()).await;
        } else if head.starts_with("GET /bad") {
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
        } else if head.starts_with("GET /slow") {
            // Never responds; reports when the proxy has given up.
            read_to_end(&mut stream).await;
            let _ = events.send(BackendEvent::Bytes(b"given up".to_vec()));
        } else {
            stream.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
            read_to_end(&mut stream).await;
        }
    })
    .await;
    let proxy = Proxy::start(&route(&[backend.address], ONE)).await;
    let client = Client::new(&proxy).await;
    for _ in 0..3 {
        assert_eq!(client.request(HANDSHAKE.replace("/ws", "/no").as_bytes()).await.status, 403);
        assert_eq!(client.request(HANDSHAKE.replace("/ws", "/bad").as_bytes()).await.status, 502);
    }
    for (slow, with_reset) in [(1, false), (2, true)] {
        let mut impatient = BufReader::new(client.connect_plain().await);
        impatient.write_all(HANDSHAKE.replace("/ws", "/slow").as_bytes()).await.unwrap();
        // A client that leaves earlier may do so before the backend is asked.
        within_timeout("the permit to be taken, and the backend to be asked", async {
            let is_slow = |head: &&String| head.starts_with("GET /slow");
            while proxy.health().await["tunnels"] != 1
                || backend.heads().iter().filter(is_slow).count() != slow
            {}
        })
        .await;
        assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 429);
        if with_reset {
            reset(impatient)
        } else {
            drop(impatient)
        }
        assert_eq!(backend.bytes().await, b"given up");
        proxy.wait_until_idle().await;
    }
    assert_eq!(client.request(HANDSHAKE.as_bytes()).await.status, 101);
    proxy
        .nth_record("the disconnected clients", 2, |record| record["end"] == "client_disconnected")
        .await;
}

#[tokio::test]
async fn concurrent_handshakes_never_exceed_the_limit() {
    let bed = TestBed::with("[concurrency]\ntunnels_per_client = 5\n").await;
    for round in 1..=3 {
        let mut crowd = JoinSet::new();
        for _ in 0..40 {
            let client = bed.client.clone();
            crowd.spawn(async move {
                let mut stream = BufReader::new(client.connect_plain().await);
                stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
                let status = read_response(&mut stream).await.status;
                (status, stream)
            });
        }
        let answers = within_timeout("all answers", crowd.join_all()).await;
        let (admitted, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(status, _)| *status == 101);
        assert_eq!(admitted.len(), 5, "round {round}");
        assert!(refused.iter().all(|(status, _)| *status == 429));
        drop(refused);
        // They may have reached the backend in any order.
        let mut clients: Vec<_> = admitted.into_iter().map(|(_, client)| client).collect();
        for client in &mut clients {
            client.write_all(&wire::masked(0x88, b"")).await.unwrap();
        }
        for _ in 0..5 {
            let mut backend = bed.backend.accept().await;
            assert_eq!(wire::read(&mut backend).await.unwrap().code(), 1005);
            backend.write_all(&wire::unmasked(0x88, b"")).await.unwrap();
        }
        for client in &mut clients {
            assert_eq!(wire::read(client).await.unwrap().code(), 1005);
        }
        drop(clients);
        bed.proxy.wait_until_idle().await;
    }
}

#[tokio::test]
async fn every_tunnel_releases_its_descriptors() {
    let bed = TestBed::with("").await;
    let (client, backend) = bed.open().await;
    close_normally(client, backend).await;
    bed.proxy.wait_until_idle().await;
    let (_, before) = bed.proxy.memory_and_descriptors();
    for n in 0..60 {
        let (mut client, mut backend) = bed.open_secure().await;
        assert_relays(&mut client, &mut backend).await;
        match n % 4 {
            0 => close_normally(client, backend).await,
            1 => drop(backend),
            2 => reset(backend),
            _ => client.write_all(b"no frame").await.unwrap(),
        }
    }
    bed.proxy.wait_until_idle().await;
    let (_, after) = bed.proxy.memory_and_descriptors();
    assert!(after <= before + 2, "{before} descriptors became {after}");
}
