//! The demo's page: one embedded file, filled in and sent under a strict content security policy.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// The proxy settings that the page explains; 0 stands for a limit that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Largest message from a client, in bytes.
    pub message_max: u64,
    /// Maximum number of open tunnels per client.
    pub tunnels_max: usize,
    /// Length of the drain window, in milliseconds.
    pub drain_window_ms: u128,
    /// The address of the status page.
    pub admin: SocketAddr,
}

impl Page {
    /// Renders the page with its headers. Its own script and style are allowed by a nonce that is
    /// new for every response; no other code runs, and the page connects only to its own origin.
    /// Responds 500 if the system provides no randomness, rather than use a weak nonce.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            return internal_error();
        }
        let nonce = format!("{:032x}", u128::from_be_bytes(bytes));
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let Ok(policy) = HeaderValue::try_from(policy) else {
            return internal_error();
        };
        let mut response = Response::new(Full::new(Bytes::from(self.render(&nonce))));
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    fn render(&self, nonce: &str) -> String {
        TEMPLATE
            .replace("{{nonce}}", nonce)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{message_max}}", &self.message_max.to_string())
            .replace("{{tunnels_max}}", &self.tunnels_max.to_string())
            .replace("{{drain_window_ms}}", &self.drain_window_ms.to_string())
            .replace("{{admin}}", &self.admin.to_string())
    }
}

fn internal_error() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

const TEMPLATE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page {
        message_max: 4096,
        tunnels_max: 7,
        drain_window_ms: 1500,
        admin: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180),
    };

    #[test]
    fn fills_all_placeholders_and_loads_nothing_external() {
        let page = PAGE.render("abc");
        assert!(!page.contains("{{"), "a placeholder is left");
        assert!(page.contains("4096") && page.contains("1500"));
        // A link loads nothing until it is followed.
        let link = "<a href=\"http://127.0.0.1:9180/status\"";
        assert!(page.contains(link), "no link to the status page");
        let page = page.replace(link, "");
        for external in ["src=\"http", "href=\"http", "@import", "url(http", "innerHTML"] {
            assert!(!page.contains(external), "{external}");
        }
    }

    #[test]
    fn nonce_is_unique_and_inline_code_forbidden() {
        let policy = |response: Response<Full<Bytes>>| {
            response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        let (first, second) = (policy(PAGE.response()), policy(PAGE.response()));
        assert_ne!(first, second);
        assert!(first.starts_with("default-src 'none'") && !first.contains("unsafe"), "{first}");
    }
}
