//! Orders to a running proxy, as lines of JSON by hand.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Proxy, soon};

/// What a configuration needs for [`Proxy::order`].
pub const CONTROL: &str = "[control]\nsocket = \"control.sock\"\n";

impl Proxy {
    /// Where orders are taken.
    pub fn control(&self) -> PathBuf {
        self.folder().join("control.sock")
    }

    /// Sends one line; what follows can be read.
    pub async fn ask(&self, line: &[u8]) -> BufReader<UnixStream> {
        let mut stream = BufReader::new(UnixStream::connect(self.control()).await.unwrap());
        // Who is refused at once may hang up before it has read.
        let _ = stream.write_all(&[line, b"\n"].concat()).await;
        stream
    }

    /// Sends one line; all that is answered.
    pub async fn ask_all(&self, line: &[u8]) -> String {
        let mut stream = self.ask(line).await;
        let mut said = Vec::new();
        let _ = soon("an answer", stream.read_to_end(&mut said)).await;
        String::from_utf8(said).unwrap()
    }

    /// An order that must be followed; what is answered.
    pub async fn order(&self, request: Value) -> Value {
        let answer = self.answered(&request).await;
        assert!(!answer["ok"].is_null(), "{request}: {answer}");
        answer["ok"].clone()
    }

    /// An order that must be refused; the kind of fault, and its words.
    pub async fn no_order(&self, request: Value) -> (String, String) {
        let answer = self.answered(&request).await;
        let fault = &answer["fault"];
        let text = |key: &str| fault[key].as_str().map(str::to_owned);
        let told = text("kind").zip(text("message"));
        told.unwrap_or_else(|| panic!("{request}: {answer}"))
    }

    async fn answered(&self, request: &Value) -> Value {
        let said = self.ask_all(request.to_string().as_bytes()).await;
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{request}: {said:?}: {error}"))
    }
}

/// The next line of a reply; `None` at its end.
pub async fn next(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    let read = soon("a line", stream.read_line(&mut line)).await.unwrap();
    (read > 0).then(|| serde_json::from_str(&line).unwrap())
}

/// A selection by one key.
pub fn of(key: &str, value: impl Into<Value>) -> Value {
    json!({ key: value.into() })
}
