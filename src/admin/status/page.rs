//! The status page: three files in one, sent under a policy that lets nothing else run or load.

use std::sync::LazyLock;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use ws::Entropy;

use crate::downstream::response::{Body, text};
use crate::sys::entropy::SystemEntropy;

/// The page. Its own script and style run by a nonce that is new each time; it may talk only to
/// where it is from.
pub fn reply() -> Response<Body> {
    let mut bytes = [0; 16];
    SystemEntropy.fill(&mut bytes);
    let nonce = format!("{:032x}", u128::from_be_bytes(bytes));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let Ok(policy) = HeaderValue::try_from(policy) else {
        // Never: it is plain ASCII. But no page rather than one without its policy.
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no page\n");
    };
    let mut reply = text(StatusCode::OK, PAGE.replace(NONCE, &nonce));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, html);
    reply.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    reply
}

/// All but the nonce.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("../page/status.html")
        .replace("{{style}}", include_str!("../page/status.css").trim_end())
        .replace("{{script}}", include_str!("../page/status.js").trim_end())
});

const NONCE: &str = "{{nonce}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_needs_nothing_from_elsewhere() {
        assert_eq!(PAGE.matches(NONCE).count(), 2);
        assert_eq!(PAGE.matches("{{").count(), 2, "a blank is left");
        for outside in ["src=", "href=\"http", "@import", "url(", "innerHTML", "eval(", "style=\""]
        {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_nonce_is_new_each_time_and_no_inline_code_is_allowed() {
        let policy = |reply: Response<Body>| {
            reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
        };
        let (first, second) = (policy(reply()), policy(reply()));
        assert_ne!(first, second);
        assert!(first.starts_with("default-src 'none'") && !first.contains("unsafe"), "{first}");
    }
}
