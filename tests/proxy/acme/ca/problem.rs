//! Error responses of the CA (RFC 8555 6.7, RFC 7807).

use serde_json::{Value, json};

/// An error, as the CA describes it to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// The error type without its prefix, such as `rateLimited`.
    pub kind: &'static str,
    /// The description for people.
    pub detail: String,
    /// Value of `Retry-After`: seconds, or a date.
    pub retry_after: Option<String>,
}

impl Problem {
    /// An error without `Retry-After`.
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    /// A request that cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(400, "malformed", detail)
    }

    /// Adds `Retry-After` in seconds.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.to_string());
        self
    }

    /// The body of the response, and the `error` of a challenge.
    pub fn json(&self) -> Value {
        json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.kind),
            "detail": self.detail,
            "status": self.status,
        })
    }
}
