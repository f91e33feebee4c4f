//! Signals other than SIGHUP and SIGUSR2, and notifications to the service manager (sd_notify(3)).

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::{Proxy, ServiceManager, TestBed, assert_relays, route, wire};

// Requirements: SR11.
#[tokio::test]
async fn unused_signals_are_ignored() {
    let bed = TestBed::with("").await;
    let (mut client, mut backend) = bed.open().await;
    for signal in [Signal::PIPE, Signal::CHILD, Signal::USR1, Signal::WINCH] {
        bed.proxy.signal(signal);
        assert_relays(&mut client, &mut backend).await;
    }
    let (mut late, mut lates_backend) = bed.open_secure().await;
    assert_relays(&mut late, &mut lates_backend).await;
}

// Requirements: SR12.
#[tokio::test]
async fn suspended_proxy_does_not_fail_heartbeats() {
    let heartbeat = "[heartbeat]\ninterval = \"300ms\"\ntimeout = \"2s\"\n";
    let bed = TestBed::with(heartbeat).await;
    // One client answers while the proxy is stopped, the other after it continues.
    let (mut prompt, mut prompts_backend) = bed.open().await;
    let (mut late, mut lates_backend) = bed.open().await;
    let prompts_ping = wire::read(&mut prompt).await.unwrap();
    let lates_ping = wire::read(&mut late).await.unwrap();
    assert_eq!((prompts_ping.opcode(), lates_ping.opcode()), (wire::PING, wire::PING));
    bed.proxy.suspend().await;
    let pong = wire::masked(0x80 | wire::PONG, &prompts_ping.payload);
    prompt.write_all(&pong).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    bed.proxy.signal(Signal::CONT);
    let pong = wire::masked(0x80 | wire::PONG, &lates_ping.payload);
    late.write_all(&pong).await.unwrap();
    assert_relays(&mut prompt, &mut prompts_backend).await;
    assert_relays(&mut late, &mut lates_backend).await;
    // The heartbeat continues.
    let again = wire::read(&mut late).await.unwrap();
    assert_eq!(again.opcode(), wire::PING);
}

// Requirements: SR10.
#[tokio::test]
async fn early_sigterm_exits_cleanly() {
    for delay in 0..12 {
        let mut proxy = Proxy::spawn(&config(), &[]);
        sleep(Duration::from_millis(delay)).await;
        proxy.signal(Signal::TERM);
        // None: the signal arrived before the handler was installed. A signal that arrives while
        // the library installs the handler is lost, so it is sent again.
        let code = match timeout(Duration::from_secs(3), proxy.exit()).await {
            Ok(code) => code,
            Err(_) => {
                proxy.signal(Signal::TERM);
                proxy.exit().await
            }
        };
        assert!(matches!(code, Some(0) | None), "{code:?}: {:#?}", proxy.records());
    }
}

#[tokio::test]
async fn service_manager_is_notified_of_each_step() {
    let manager = ServiceManager::new();
    let has = |message: &str, line: &str| message.lines().any(|found| found == line);

    let mut proxy = Proxy::spawn(&config(), &[manager.environment()]);
    let ready = manager.next_message().await;
    assert!(has(&ready, "READY=1"), "{ready}");
    assert!(ready.contains("STATUS=configuration 1"), "{ready}");
    // READY=1 means that connections are accepted.
    let address = proxy.address("plain").await;
    TcpStream::connect(address).await.unwrap();

    let mut last = 0;
    for (file, status) in [(config(), "configuration 2"), ("nonsense".into(), "configuration 2")] {
        proxy.rewrite(&file);
        proxy.signal(Signal::HUP);
        let reloading = manager.next_message().await;
        assert!(has(&reloading, "RELOADING=1"), "{reloading}");
        // systemd considers the reload finished only with a READY=1 later than this.
        let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let since: u64 = since.unwrap().parse().unwrap();
        assert!(since > last, "{since} after {last}");
        last = since;
        let ready = manager.next_message().await;
        assert!(has(&ready, "READY=1") && ready.contains(status), "{ready}");
    }

    proxy.signal(Signal::TERM);
    let stopping = manager.next_message().await;
    assert!(has(&stopping, "STOPPING=1"), "{stopping}");
    assert_eq!(proxy.exit().await, Some(0));
}

#[tokio::test]
async fn unreachable_service_manager_is_ignored() {
    let mut proxy = Proxy::spawn(&config(), &[("NOTIFY_SOCKET", "/missing/socket")]);
    proxy.ready().await;
    assert_eq!(proxy.reload().await["generation"], 2);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit().await, Some(0));
}

/// One plain listener, and a backend address without a listener.
fn config() -> String {
    let base = "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
                [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n";
    format!("{base}{}", route(&[([127, 0, 0, 66], 1).into()], ""))
}
