//! `tidegate ctl` with a process that sends prepared answers: requests on the wire, text and JSON
//! output, and exit codes.

mod check_diff;
mod errors;
mod live_proxy;
mod output;
mod requests;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control::CONTROL;
use crate::support::{
    Proxy, TIDEGATE, TempDir, TestBed, assert_relays, other_user, wait_until_client_data_processed,
    wire, within_timeout, write_certificate,
};

/// Answers each connection with the next of these texts, then stops.
struct Fake {
    folder: TempDir,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let folder = TempDir::new();
        let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                // The client may close the connection once it has read enough.
                let _ = stream.write_all(&answer);
            }
        });
        Self { folder, asked }
    }

    /// Runs the program with these arguments and this socket.
    fn says(&self, words: &[&str]) -> CliOutput {
        run_cli(&self.folder.path().join("control.sock"), words)
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

struct CliOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", TIDEGATE]).args(words).env_remove("RUNTIME_DIRECTORY");
    command
}

fn output(command: &mut Command) -> CliOutput {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let output = CliOutput {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    };
    for text in [&output.out, &output.err] {
        assert!(!text.contains('\x1b') && !text.contains("panicked"), "{text}");
    }
    output
}

fn run_cli(socket: &Path, words: &[&str]) -> CliOutput {
    output(command(words).arg("--socket").arg(socket))
}

/// Runs the program with one prepared answer.
fn run_with_answer(words: &[&str], answer: Value) -> CliOutput {
    Fake::new(vec![format!("{answer}\n").into_bytes()]).says(words)
}

/// The request that these arguments send.
fn asked(words: &[&str]) -> Value {
    let fake =
        Fake::new(vec![b"{\"error\":{\"kind\":\"rejected\",\"message\":\"no\"}}\n".to_vec()]);
    let output = fake.says(words);
    assert_eq!((output.code, output.err.as_str()), (Some(1), "tidegate: no\n"), "{words:?}");
    let asked = fake.asked();
    assert_eq!(asked.len(), 1, "{words:?}");
    asked[0].clone()
}

fn which(given: Value) -> Value {
    let mut of = json!({
        "sessions": [], "client": null, "route": null, "backend": null, "older_ms": null,
    });
    of.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    of
}

/// One session of a list.
fn row(session: u64, up_bytes: u64) -> Value {
    json!({
        "session": session, "client": "192.0.2.7", "listener": "tls", "route": "chat",
        "backend": "10.0.0.7:9001", "age_ms": 192_000, "up_bytes": up_bytes, "down_bytes": 5,
        "up_messages": 3, "down_messages": 4, "client_rtt_ms": 12.3, "backend_rtt_ms": null,
        "closing": session == 2,
    })
}
