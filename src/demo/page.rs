//! The demo's page: one embedded file, filled in and sent under a strict policy.

use crate::config::settings::Settings;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// What the page has to know of the proxy's settings to explain what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Largest message from a client, in bytes.
    pub message_max: u64,
    /// Tunnels one client may have open.
    pub tunnels_max: usize,
    /// Time over which a drain is spread, in milliseconds.
    pub drain_window_ms: u128,
}

impl Page {
    /// What the page has to know of these settings; a limit that is not set is 0.
    pub fn of(settings: &Settings) -> Self {
        let terms = settings.routes.first().map(|route| &route.terms);
        Self {
            message_max: terms.and_then(|terms| terms.from_client.message).map_or(0, |cap| cap.max),
            tunnels_max: settings.caps.tunnels_per_client,
            drain_window_ms: settings.drain.window.as_millis(),
        }
    }

    /// The page with its headers. Its own script and style run by a nonce that is new each time;
    /// nothing else may run, load, frame it or be framed, and it may talk only to where it is from.
    pub fn reply(&self) -> Response<Full<Bytes>> {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            return failure();
        }
        let nonce = format!("{:032x}", u128::from_be_bytes(bytes));
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let Ok(policy) = HeaderValue::try_from(policy) else {
            return failure();
        };
        let mut reply = Response::new(Full::new(Bytes::from(self.fill(&nonce))));
        let headers = reply.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        reply
    }

    fn fill(&self, nonce: &str) -> String {
        TEXT.replace("{{nonce}}", nonce)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{message_max}}", &self.message_max.to_string())
            .replace("{{tunnels_max}}", &self.tunnels_max.to_string())
            .replace("{{drain_window_ms}}", &self.drain_window_ms.to_string())
    }
}

/// The system gave no randomness: no page rather than a weak policy.
fn failure() -> Response<Full<Bytes>> {
    let mut reply = Response::default();
    *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    reply
}

const TEXT: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page { message_max: 4096, tunnels_max: 7, drain_window_ms: 1500 };

    #[test]
    fn every_blank_is_filled_and_the_page_needs_nothing_from_elsewhere() {
        let filled = PAGE.fill("abc");
        assert!(!filled.contains("{{"), "a blank is left");
        assert!(filled.contains("4096") && filled.contains("1500"));
        for outside in ["src=\"http", "href=\"http", "@import", "url(http", "innerHTML"] {
            assert!(!filled.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_nonce_is_new_each_time_and_no_inline_code_is_allowed() {
        let policy = |reply: Response<Full<Bytes>>| {
            reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        let (first, second) = (policy(PAGE.reply()), policy(PAGE.reply()));
        assert_ne!(first, second);
        assert!(first.starts_with("default-src 'none'") && !first.contains("unsafe"), "{first}");
    }
}
