//! How long ten thousand certificates take, and what they cost open tunnels.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::certificates::{RENEWED, config, connect, has_message};
use crate::support::{
    MockBackend, Proxy, Record, TempDir, assert_relays, trust_any_certificate, upgrade, write_key,
};

/// A measurement, not a test, since times depend on the machine:
/// `cargo test --release --test proxy ten_thousand_certificates -- --ignored --nocapture`
// Requirements: CK13.
#[tokio::test]
#[ignore = "a measurement"]
async fn ten_thousand_certificates() {
    let mock = MockBackend::new().await;
    let folder = TempDir::new();
    let at = folder.path().display();
    let mut config = config("chain.pem", "key.pem", &mock, "");
    for n in 0..10_000 {
        let made = rcgen::generate_simple_self_signed([format!("n{n}.example")]).unwrap();
        folder.write(&format!("{n}.pem"), made.cert.pem());
        write_key(&folder.path().join(format!("{n}.key")), &made.signing_key.serialize_pem());
        config += &format!("[[certificate]]\nchain = \"{at}/{n}.pem\"\nkey = \"{at}/{n}.key\"\n");
    }
    let began = Instant::now();
    let proxy = Proxy::start_bare(&config).await;
    println!("start: {:?}, {} KiB", began.elapsed(), proxy.memory_and_descriptors().0);
    let address = proxy.address("tls").await;
    for name in ["localhost", "n0.example", "n9999.example"] {
        let began = Instant::now();
        for _ in 0..100 {
            drop(connect(&trust_any_certificate(), address, name).await);
        }
        println!("a handshake for {name}: {:?}", began.elapsed() / 100);
    }
    let stream = connect(&trust_any_certificate(), address, "localhost").await;
    let (mut tunnel, mut backend) = (upgrade(stream).await, mock.accept().await);
    let mut trips = async |what: &str, until: &mut (dyn FnMut() -> bool + Send)| {
        let (mut worst, mut count) = (Duration::ZERO, 0);
        while !until() {
            let began = Instant::now();
            assert_relays(&mut tunnel, &mut backend).await;
            worst = worst.max(began.elapsed());
            count += 1;
        }
        println!("{what}: {count} round trips of a tunnel, the longest {worst:?}");
    };
    let mut left = 2000;
    trips("at rest", &mut || {
        left -= 1;
        left == 0
    })
    .await;
    let began = Instant::now();
    proxy.signal(Signal::HUP);
    let done = |record: &Record| record["generation"] == 2;
    trips("during a reload", &mut || proxy.records().iter().any(done)).await;
    println!("the reload: {:?}", began.elapsed());
    folder.write("0.pem", fs::read_to_string(folder.path().join("0.pem")).unwrap() + "\n");
    trips("around a renewal", &mut || proxy.records().iter().any(|r| has_message(RENEWED)(r)))
        .await;
    println!("cpu: {} ticks, {} KiB", proxy.cpu_ticks(), proxy.memory_and_descriptors().0);
}
