//! A panic in the task of one connection. A separate test program, since panics are counted per
//! process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed, and a panic is what this one is about"
)]

use tidegate::config::settings::Settings;
use tidegate::telemetry::log;
use tokio_util::task::TaskTracker;

// Requirements: SR14.
#[tokio::test]
async fn panic_in_one_task_spares_the_others() {
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = false\n\
                [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:2\"]\n";
    let settings = Settings::parse(text, "proxy.toml").unwrap();
    let _flush = log::init(&settings.log);
    // Spawned as the proxy spawns connections.
    let tasks = TaskTracker::new();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let surviving = tasks.spawn(async move {
        receiver.recv().await.unwrap();
    });
    for n in 1..=3 {
        let ended = tasks.spawn(async { panic!("a bug in one task") }).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(log::panics(), n);
    }
    assert_eq!(tasks.len(), 1, "a drain does not wait for panicked tasks");
    sender.send(()).await.unwrap();
    surviving.await.unwrap();
    tasks.close();
    tasks.wait().await;
}
