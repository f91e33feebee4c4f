//! Control commands to a running proxy, as JSON lines without a client library.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Proxy, within_timeout};

/// The configuration that [`Proxy::command`] requires.
pub const CONTROL: &str = "[control]\nsocket = \"control.sock\"\n";

impl Proxy {
    /// Path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.folder().join("control.sock")
    }

    /// Sends one line; the reply can be read from the returned stream.
    pub async fn send_line(&self, line: &[u8]) -> BufReader<UnixStream> {
        let mut stream = BufReader::new(UnixStream::connect(self.control_socket()).await.unwrap());
        // A rejected connection may be closed before this is written.
        let _ = stream.write_all(&[line, b"\n"].concat()).await;
        stream
    }

    /// Sends one line and reads the reply until EOF.
    pub async fn send_line_and_read(&self, line: &[u8]) -> String {
        let mut stream = self.send_line(line).await;
        let mut reply = Vec::new();
        let _ = within_timeout("a response", stream.read_to_end(&mut reply)).await;
        String::from_utf8(reply).unwrap()
    }

    /// Sends a command that must succeed; returns its result.
    pub async fn command(&self, request: Value) -> Value {
        let response = self.answered(&request).await;
        assert!(!response["ok"].is_null(), "{request}: {response}");
        response["ok"].clone()
    }

    /// Sends a command that must fail; returns the error's kind and message.
    pub async fn command_error(&self, request: Value) -> (String, String) {
        let response = self.answered(&request).await;
        let fault = &response["error"];
        let text = |key: &str| fault[key].as_str().map(str::to_owned);
        let error = text("kind").zip(text("message"));
        error.unwrap_or_else(|| panic!("{request}: {response}"))
    }

    async fn answered(&self, request: &Value) -> Value {
        let reply = self.send_line_and_read(request.to_string().as_bytes()).await;
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{request}: {reply:?}: {error}"))
    }
}

/// Reads the next line of a reply; `None` at EOF.
pub async fn next_line(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    let read = within_timeout("a line", stream.read_line(&mut line)).await.unwrap();
    (read > 0).then(|| serde_json::from_str(&line).unwrap())
}

/// A selection by one key.
pub fn select(key: &str, value: impl Into<Value>) -> Value {
    json!({ key: value.into() })
}
