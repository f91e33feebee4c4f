//! A fault of ours in the task of one connection. A test of its own process, whose panics are counted.

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
    // As the house spawns them.
    let tasks = TaskTracker::new();
    let (say, mut heard) = tokio::sync::mpsc::channel(1);
    let living = tasks.spawn(async move {
        heard.recv().await.unwrap();
    });
    for n in 1..=3 {
        let ended = tasks.spawn(async { panic!("what should not happen") }).await;
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(log::panics(), n);
    }
    assert_eq!(tasks.len(), 1, "a drain does not wait for what is lost");
    say.send(()).await.unwrap();
    living.await.unwrap();
    tasks.close();
    tasks.wait().await;
}
