//! `tidegate ctl` with a process that sends prepared responses: requests on the wire, text and JSON
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

/// A control socket that sends one prepared response to each connection, then closes.
struct FakeControlServer {
    folder: TempDir,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl FakeControlServer {
    fn new(responses: Vec<Vec<u8>>) -> Self {
        let folder = TempDir::new();
        let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                log.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                // The client may close the connection once it has read enough.
                let _ = stream.write_all(&response);
            }
        });
        Self { folder, requests }
    }

    /// Runs the program with these arguments and this socket.
    fn run(&self, args: &[&str]) -> CliOutput {
        run_cli(&self.folder.path().join("control.sock"), args)
    }

    fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

struct CliOutput {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", TIDEGATE]).args(args);
    command.env_remove("RUNTIME_DIRECTORY").env_remove("TIDEGATE_SOCKET");
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

fn run_cli(socket: &Path, args: &[&str]) -> CliOutput {
    output(command(args).arg("--socket").arg(socket))
}

/// Runs the program with one prepared response.
fn run_with_response(args: &[&str], response: Value) -> CliOutput {
    FakeControlServer::new(vec![format!("{response}\n").into_bytes()]).run(args)
}

/// The request that these arguments send.
fn sent_request(args: &[&str]) -> Value {
    let server = FakeControlServer::new(vec![
        b"{\"error\":{\"kind\":\"rejected\",\"message\":\"no\"}}\n".to_vec(),
    ]);
    let output = server.run(args);
    assert_eq!((output.code, output.err.as_str()), (Some(1), "tidegate: no\n"), "{args:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{args:?}");
    requests[0].clone()
}

/// A selection with these fields set and all others empty.
fn selection(fields: Value) -> Value {
    let mut selection = json!({
        "sessions": [], "client": null, "route": null, "backend": null, "older_ms": null,
    });
    selection.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    selection
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
