//! A log that is not read (a stalled journal, a full pipe) loses lines and blocks nothing else.

use std::io::{BufRead, BufReader as StdBufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    MockBackend, TIDEGATE, TempDir, assert_relays, close_normally, read_response, route, upgrade,
    within_timeout,
};

// Requirements: RE13.
#[tokio::test]
async fn blocked_log_stops_neither_traffic_nor_exit() {
    let mut proxy = proxy_with_a_full_log_pipe().await;
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test]
async fn lost_lines_are_reported_in_log_format() {
    let mut proxy = proxy_with_a_full_log_pipe().await;
    let mut stderr = proxy.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = String::new();
        stderr.read_to_string(&mut all).map(|_| all)
    });
    assert_eq!(proxy.end().await, Some(0));
    let all = reading.join().unwrap().unwrap();
    let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    let written = lines.iter().filter(|line| line["lost"].is_null()).count() as u64;
    assert!(lost > 0, "no line was lost");
    // The record of the tunnel and two lines at exit.
    assert_eq!(written + lost, REJECTED_REQUESTS + 3, "{lost} lines were lost");
    let report = lines.iter().find(|line| line["lost"].is_u64()).unwrap();
    assert_eq!(report["level"], "WARN");
    assert!(report["message"].as_str().unwrap().contains("lines were lost"), "{report}");
}

/// A proxy that logs more than a pipe (64 KiB) and the queue before it (2 MiB) hold, while its
/// tunnel keeps relaying.
async fn proxy_with_a_full_log_pipe() -> UnreadLog {
    let mock = MockBackend::new().await;
    // The tunnel answers no pings while the requests are sent, which takes as long as it takes.
    let more = "path = \"/ws\"\nheartbeat = { interval = \"off\" }\n";
    let proxy = UnreadLog::start(&route(&[mock.address()], more));
    let mut tunnel = upgrade(TcpStream::connect(proxy.address).await.unwrap()).await;
    let mut backend = mock.accept().await;
    let request = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(250));
    for n in 1..=REJECTED_REQUESTS {
        let mut stream = BufReader::new(TcpStream::connect(proxy.address).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await.status, 404);
        if n.is_multiple_of(400) {
            assert_relays(&mut tunnel, &mut backend).await;
        }
    }
    close_normally(tunnel, backend).await;
    proxy
}

const REJECTED_REQUESTS: u64 = 5600;

/// A proxy with a standard error that is read only until it serves.
struct UnreadLog {
    child: Child,
    address: SocketAddr,
    /// Kept open, so that writing to it blocks instead of failing.
    stderr: Option<StdBufReader<ChildStderr>>,
    _folder: TempDir,
}

impl UnreadLog {
    fn start(rest: &str) -> Self {
        let folder = TempDir::new();
        let base = "[log]\nformat = \"json\"\n[admin]\nenabled = false\n\
                    [access]\nrecords_per_client = \"off\"\n\
                    [[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n";
        folder.write("proxy.toml", format!("{base}{rest}"));
        let child = Command::new(TIDEGATE)
            .args(["run", "--config", "proxy.toml"])
            .env("RUNTIME_DIRECTORY", folder.path())
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut proxy = Self { child, address, stderr: None, _folder: folder };
        let mut stderr = StdBufReader::new(proxy.child.stderr.take().unwrap());
        let mut record = Value::Null;
        while record["message"] != "serving" {
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            record = serde_json::from_str(&line).unwrap();
            if record["message"] == "listening" {
                proxy.address = record["address"].as_str().unwrap().parse().unwrap();
            }
        }
        proxy.stderr = Some(stderr);
        proxy
    }
}

impl UnreadLog {
    /// Sends SIGTERM and returns the exit code.
    async fn end(&mut self) -> Option<i32> {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        within_timeout("the end", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

impl Drop for UnreadLog {
    fn drop(&mut self) {
        drop(self.stderr.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
