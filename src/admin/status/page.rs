//! The status page: HTML, style and script in one response, with a Content-Security-Policy that
//! allows nothing else.

use std::sync::LazyLock;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use ws::Entropy;

use crate::downstream::response::{Body, text};
use crate::sys::entropy::SystemEntropy;

/// Builds the response. The policy allows the inline script and style by a new nonce per response,
/// and requests only to the same origin.
pub fn response() -> Response<Body> {
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    let nonce = format!("{:032x}", u128::from_be_bytes(bytes));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let Ok(policy) = HeaderValue::try_from(policy) else {
        // Unreachable, because the policy is ASCII; without a policy no page is sent.
        return text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
    };
    let mut response = text(StatusCode::OK, PAGE.replace(NONCE, &nonce));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// The page with a placeholder for the nonce.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/status.html")
        .replace("{{style}}", include_str!("page/status.css").trim_end())
        .replace("{{script}}", SCRIPT.trim_end())
});

/// One script of three files; the order matters.
const SCRIPT: &str = concat!(
    include_str!("page/format.js"),
    include_str!("page/elements.js"),
    include_str!("page/status.js")
);

const NONCE: &str = "{{nonce}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_complete_and_self_contained() {
        assert_eq!(PAGE.matches(NONCE).count(), 2);
        assert_eq!(PAGE.matches("{{").count(), 2, "a placeholder is left");
        for outside in ["src=", "href=\"http", "@import", "url(", "innerHTML", "eval(", "style=\""]
        {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn nonce_is_fresh_and_unsafe_inline_is_not_allowed() {
        let policy = |response: Response<Body>| {
            response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        let (first, second) = (policy(response()), policy(response()));
        assert_ne!(first, second);
        assert!(first.starts_with("default-src 'none'") && !first.contains("unsafe"), "{first}");
    }
}
