//! `/metrics`: valid, complete, documented and consistent.

use std::collections::BTreeMap;

use tokio::io::AsyncWriteExt;

use crate::support::head::get;
use crate::support::{
    Backend, Client, Proxy, Scrape, TestBed, assert_relays, close_normally, read_to_end, route,
    wire, within_timeout,
};

#[tokio::test]
async fn metrics_match_their_documentation() {
    // Some are those of names.
    let named =
        "[[route]]\nhost = \"named.example\"\norigins = [\"*\"]\nbackends = [\"localhost:1\"]\n";
    let bed = TestBed::with(named).await;
    let (mut client, mut backend) = bed.open_secure().await;
    assert_relays(&mut client, &mut backend).await;
    let scrape = bed.proxy.scrape().await;
    // A process without [acme] has no metrics of it.
    let (documented, _) =
        include_str!("../../docs/metrics.md").split_once("## Ordered certificates").unwrap();
    let written: BTreeMap<String, (String, String)> = documented
        .lines()
        .filter(|line| line.starts_with("| `tidegate_"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`').to_owned();
            (name, (cells[2].to_owned(), cells[3].replace('`', "")))
        })
        .collect();
    let served: BTreeMap<String, (String, String)> = scrape
        .families
        .iter()
        .map(|(name, kind)| {
            let suffix = match kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let labels: Vec<&str> = scrape.labels(name).into_iter().collect();
            (format!("{name}{suffix}"), (kind.clone(), labels.join(", ")))
        })
        .collect();
    assert_eq!(written, served);
}

#[tokio::test]
async fn open_connections_and_tunnels_are_counted() {
    let bed = TestBed::with("").await;
    let backend = bed.backend.address().to_string();
    let before = bed.proxy.scrape().await;
    assert_eq!(before.sum("tidegate_connections", &[]), 0.0);
    let (plain, first) = bed.open().await;
    let (secure, second) = bed.open_secure().await;
    let at = |scrape: &Scrape| {
        let of = [("route", "all"), ("backend", &*backend)];
        let tunnels = ["tidegate_tunnels", "tidegate_tunnels_opened_total"];
        let connections = ["tidegate_connections", "tidegate_connections_opened_total"];
        let by = |listener| connections.map(|name| scrape.value(name, &[("listener", listener)]));
        (tunnels.map(|name| scrape.value(name, &of)), by("plain"), by("tls"))
    };
    // A tunnel is counted once its 101 is sent, which the client may see before.
    let counted = async {
        loop {
            let found = at(&bed.proxy.scrape().await);
            if found.0 == [2.0, 2.0] {
                break found;
            }
        }
    };
    let found = within_timeout("the counts", counted).await;
    assert_eq!((found.1, found.2), ([1.0, 1.0], [1.0, 1.0]));
    close_normally(plain, first).await;
    close_normally(secure, second).await;
    bed.tunnel_end(2).await;
    bed.proxy.wait_until_idle().await;
    let after = bed.proxy.scrape().await;
    assert_eq!(at(&after), ([0.0, 2.0], [0.0, 1.0], [0.0, 1.0]));
    let count = |name| after.sum(name, &[]);
    assert_eq!(count("tidegate_tunnel_duration_seconds_count"), 2.0);
    for (stage, times) in [("tls", 1.0), ("upgrade", 2.0), ("backend", 2.0)] {
        let of = [("stage", stage)];
        assert_eq!(after.value("tidegate_handshake_duration_seconds_count", &of), times, "{stage}");
        let sum = after.value("tidegate_handshake_duration_seconds_sum", &of);
        assert!(sum > 0.0 && sum < 20.0, "{stage}: {sum}");
    }
}

#[tokio::test]
async fn traffic_is_counted_by_direction() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    for _ in 0..3 {
        assert_relays(&mut client, &mut backend).await;
    }
    // Metrics of an open tunnel, which are published once both sides are idle.
    let of = |direction| [("route", "all"), ("direction", direction)];
    let scrape = within_timeout("the counts", async {
        loop {
            let scrape = bed.proxy.scrape().await;
            if scrape.value("tidegate_messages_total", &of("down")) == 3.0 {
                break scrape;
            }
        }
    })
    .await;
    // Frames are masked upwards and unmasked downwards.
    let bytes = |direction| scrape.value("tidegate_relayed_bytes_total", &of(direction));
    assert_eq!((bytes("up"), bytes("down")), (3.0 * 8.0, 3.0 * 6.0));
    assert_eq!(scrape.value("tidegate_messages_total", &of("up")), 3.0);
    assert_eq!(scrape.value("tidegate_messages_compressed_total", &of("up")), 0.0);
    close_normally(client, backend).await;
    bed.tunnel_end(1).await;
    let after = bed.proxy.scrape().await;
    // A Close is a frame but not a message.
    assert_eq!(after.value("tidegate_relayed_bytes_total", &of("up")), 24.0 + 8.0);
    assert_eq!(after.value("tidegate_messages_total", &of("up")), 3.0);
    for side in ["client", "backend"] {
        let of = [("route", "all"), ("side", side), ("code", "1000")];
        assert_eq!(after.value("tidegate_close_frames_total", &of), 1.0);
    }
}

#[tokio::test]
async fn message_sizes_and_ping_times_are_measured() {
    let bed = TestBed::with("[heartbeat]\ninterval = \"150ms\"\n").await;
    let (mut client, mut backend) = bed.open().await;
    for size in [10, 32, 33, 3000] {
        client.write_all(&wire::masked(0x82, &vec![7; size])).await.unwrap();
        wire::read(&mut backend).await.unwrap();
    }
    let ping = wire::read(&mut client).await.unwrap();
    client.write_all(&wire::masked(0x80 | wire::PONG, &ping.payload)).await.unwrap();
    let trips = [("route", "all"), ("side", "client")];
    let scrape = within_timeout("a round trip", async {
        loop {
            let scrape = bed.proxy.scrape().await;
            if scrape.value("tidegate_ping_rtt_seconds_count", &trips) > 0.0 {
                break scrape;
            }
        }
    })
    .await;
    let of = |bound| [("route", "all"), ("direction", "up"), ("le", bound)];
    let upto = |bound| scrape.value("tidegate_message_size_bytes_bucket", &of(bound));
    assert_eq!(["32.0", "256.0", "2048.0", "16384.0"].map(upto), [2.0, 3.0, 3.0, 4.0]);
    let sum = [("route", "all"), ("direction", "up")];
    assert_eq!(scrape.value("tidegate_message_size_bytes_sum", &sum), 3075.0);
}

#[tokio::test]
async fn counters_survive_reloads_and_reloads_are_counted() {
    let backend = Backend::app("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::start(&route(&[backend.address], "")).await;
    let client = Client::new(&proxy).await;
    for _ in 0..2 {
        assert_eq!(client.request(get("/").as_bytes()).await.status, 204);
    }
    let requests = |scrape: &Scrape, route| {
        let of = [("route", route), ("status", "2xx")];
        scrape.value("tidegate_http_requests_total", &of)
    };
    let first = proxy.scrape().await;
    assert_eq!(requests(&first, "all"), 2.0);
    assert_eq!(first.value("tidegate_config_generation", &[]), 1.0);
    proxy.reload().await;
    proxy.reload_with("[[route]]", "[nonsense").await;
    let second = proxy.scrape().await;
    assert_eq!(requests(&second, "all"), 2.0);
    assert_eq!(second.value("tidegate_config_generation", &[]), 2.0);
    assert_eq!(second.value("tidegate_config_last_reload_successful", &[]), 0.0);
    for outcome in ["applied", "rejected"] {
        let of = [("outcome", outcome)];
        assert_eq!(second.value("tidegate_config_reloads_total", &of), 1.0, "{outcome}");
    }
    let when = |scrape: &Scrape| scrape.value("tidegate_config_last_reload_timestamp_seconds", &[]);
    assert!(when(&second) > when(&first));
    // A removed name leaves no series once nothing uses it.
    proxy.reload_with("[nonsense", "[[route]]").await;
    proxy.reload_with("name = \"all\"", "name = \"other\"").await;
    proxy.reload().await;
    let third = proxy.scrape().await;
    assert!(
        third.series.keys().all(|(_, labels)| labels.get("route").is_none_or(|r| r == "other"))
    );
    assert_eq!(third.value("tidegate_config_last_reload_successful", &[]), 1.0);
}

#[tokio::test]
async fn process_metrics_are_plausible() {
    let bed = TestBed::with("").await;
    let scrape = bed.proxy.scrape().await;
    let value = |name: &str| scrape.value(name, &[]);
    let (resident, open) = bed.proxy.memory_and_descriptors();
    let near = |shown: f64, known: f64| shown > known / 2.0 && shown < known * 2.0;
    assert!(near(value("tidegate_resident_memory_bytes"), resident as f64 * 1024.0));
    assert!(near(value("tidegate_open_descriptors"), open as f64));
    assert!(value("tidegate_max_descriptors") > value("tidegate_open_descriptors"));
    let most = scrape.value("tidegate_capacity", &[("resource", "tunnels")]);
    assert!(most > 0.0 && most < value("tidegate_max_descriptors"));
    let state = |state| scrape.sum("tidegate_backend_state", &[("route", "all"), ("state", state)]);
    assert_eq!(["up", "untried", "down", "drained"].map(state), [0.0, 1.0, 0.0, 0.0]);
    // The test certificate expires in the year 4096.
    let of = [("certificate", "0"), ("name", "localhost")];
    let ends = scrape.value("tidegate_certificate_expiry_timestamp_seconds", &of);
    assert!((6.7e10..6.8e10).contains(&ends), "{ends}");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(scrape.value("tidegate_build_info", &version), 1.0);
    assert_eq!((value("tidegate_draining"), value("tidegate_log_lines_lost_total")), (0.0, 0.0));
    assert_eq!(value("tidegate_tasks_panicked_total"), 0.0);
}

// Requirements: RE01.
#[tokio::test]
async fn accept_pauses_are_counted() {
    let bed = TestBed::with("").await;
    // Connects first: later there is no descriptor left for the admin address.
    bed.proxy.admin().await;
    let (mut tunnel, mut backend) = bed.open().await;
    bed.proxy.spare_descriptors(Some(0));
    let waiting = bed.client.connect_plain().await;
    bed.proxy
        .record("a pause", |record| {
            record["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("accept failed, pausing"))
        })
        .await;
    assert_relays(&mut tunnel, &mut backend).await;
    bed.proxy.spare_descriptors(None);
    let scrape = bed.proxy.scrape().await;
    assert!(scrape.value("tidegate_accept_pauses_total", &[("listener", "plain")]) >= 1.0);
    drop(waiting);
}

#[tokio::test]
async fn failed_backend_is_counted_and_shown_down() {
    // A port below 1024, which no other test gets.
    let closed = "127.0.0.1:1".parse().unwrap();
    let proxy = Proxy::with_backends(&[closed]).await;
    let client = Client::new(&proxy).await;
    let id = closed.to_string();
    for _ in 0..3 {
        let mut stream = client.connect_plain().await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
    let scrape = proxy.scrape().await;
    let of = [("route", "all"), ("backend", &*id)];
    // At least: a backend that is down is probed.
    assert!(scrape.value("tidegate_backend_connect_failures_total", &of) >= 3.0);
    let answered = [("route", "all"), ("status", "5xx")];
    assert_eq!(scrape.value("tidegate_http_requests_total", &answered), 3.0);
    let of = [of[0], of[1], ("state", "down")];
    assert_eq!(scrape.value("tidegate_backend_state", &of), 1.0);
}
