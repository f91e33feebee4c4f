//! Orders to a running proxy, as lines of JSON by hand.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Proxy, within_timeout};

/// What a configuration needs for [`Proxy::command`].
pub const CONTROL: &str = "[control]\nsocket = \"control.sock\"\n";

impl Proxy {
    /// Where orders are taken.
    pub fn control_socket(&self) -> PathBuf {
        self.folder().join("control.sock")
    }

    /// Sends one line; what follows can be read.
    pub async fn send_line(&self, line: &[u8]) -> BufReader<UnixStream> {
        let mut stream = BufReader::new(UnixStream::connect(self.control_socket()).await.unwrap());
        // Who is refused at once may hang up before it has read.
        let _ = stream.write_all(&[line, b"\n"].concat()).await;
        stream
    }

    /// Sends one line; all that is answered.
    pub async fn send_line_and_read(&self, line: &[u8]) -> String {
        let mut stream = self.send_line(line).await;
        let mut said = Vec::new();
        let _ = within_timeout("an answer", stream.read_to_end(&mut said)).await;
        String::from_utf8(said).unwrap()
    }

    /// An order that must be followed; what is answered.
    pub async fn command(&self, request: Value) -> Value {
        let answer = self.answered(&request).await;
        assert!(!answer["ok"].is_null(), "{request}: {answer}");
        answer["ok"].clone()
    }

    /// An order that must be refused; the kind of fault, and its words.
    pub async fn command_error(&self, request: Value) -> (String, String) {
        let answer = self.answered(&request).await;
        let fault = &answer["error"];
        let text = |key: &str| fault[key].as_str().map(str::to_owned);
        let told = text("kind").zip(text("message"));
        told.unwrap_or_else(|| panic!("{request}: {answer}"))
    }

    async fn answered(&self, request: &Value) -> Value {
        let said = self.send_line_and_read(request.to_string().as_bytes()).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{request}: {said:?}: {error}"))
    }
}

/// The next line of a reply; `None` at its end.
pub async fn next_line(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    let read = within_timeout("a line", stream.read_line(&mut line)).await.unwrap();
    (read > 0).then(|| serde_json::from_str(&line).unwrap())
}

/// A selection by one key.
pub fn select(key: &str, value: impl Into<Value>) -> Value {
    json!({ key: value.into() })
}
