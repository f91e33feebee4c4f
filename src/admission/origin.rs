//! The `Origin` check (RFC 6455 10.2): which web pages may open WebSockets. Complete, normalised
//! origins are compared, except that `*.` stands for any subdomain.

use crate::config::values::origin::{Origin, OriginRule};

/// The `origins` list of a route.
#[derive(Clone, Debug)]
pub struct OriginRules(Vec<OriginRule>);

impl OriginRules {
    /// Takes a validated list.
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Whether a handshake with this `Origin` header is allowed. `own` is the origin of a page from
    /// the host that the request was sent to.
    pub fn allows(&self, header: Option<&str>, own: &Origin) -> bool {
        let Some(header) = header else {
            return self.0.iter().any(|rule| matches!(rule, OriginRule::Missing | OriginRule::Any));
        };
        // RFC 6454 6.2: a browser sends one serialised origin or `null`. A value that cannot be
        // parsed matches only `"*"`.
        let origin = Origin::parse(header).ok();
        self.0.iter().any(|rule| match rule {
            OriginRule::Any => true,
            OriginRule::Missing => false,
            OriginRule::Null => header == "null",
            OriginRule::SameOrigin => origin.as_ref() == Some(own),
            OriginRule::Exact(listed) => origin.as_ref() == Some(listed),
            OriginRule::Subdomains(parent) => {
                origin.as_ref().is_some_and(|o| is_subdomain(o, parent))
            }
        })
    }
}

/// Whether the origin's host is a subdomain of the parent's, with the same scheme and port.
fn is_subdomain(origin: &Origin, parent: &Origin) -> bool {
    origin.scheme == parent.scheme
        && origin.port == parent.port
        && origin
            .host
            .strip_suffix(parent.host.as_str())
            .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rules: &[&str], header: Option<&str>) -> bool {
        let rules = rules.iter().map(|rule| OriginRule::parse(rule).unwrap()).collect();
        let own = Origin::parse("https://chat.example.com").unwrap();
        OriginRules::new(rules).allows(header, &own)
    }

    // Requirements: UH15.
    #[test]
    fn missing_origin_is_a_separate_choice() {
        assert!(!allows(&["same-origin", "null"], None));
        assert!(allows(&["missing"], None));
        assert!(allows(&["*"], None));
    }

    // Requirements: UH16.
    #[test]
    fn null_origin_is_a_separate_choice() {
        assert!(!allows(&["same-origin", "missing"], Some("null")));
        assert!(allows(&["null"], Some("null")));
    }

    // Requirements: UH17.
    #[test]
    fn similar_origins_do_not_match() {
        let rules = ["https://good.example", "https://*.good.example"];
        for header in [
            "https://good.example.evil.com",
            "https://evilgood.example",
            "https://good.example:8443",
            "https://.good.example",
        ] {
            assert!(!allows(&rules, Some(header)), "{header}");
        }
        assert!(allows(&rules, Some("https://good.example")));
        assert!(allows(&rules, Some("https://a.b.good.example")));
        assert!(!allows(&["https://*.good.example"], Some("https://good.example")));
    }

    // Requirements: UH18.
    #[test]
    fn origins_are_compared_after_normalisation() {
        assert!(allows(&["same-origin"], Some("HTTPS://Chat.Example.COM:443")));
        assert!(!allows(&["same-origin"], Some("https://chat.example.com/")));
        assert!(!allows(&["same-origin"], Some("https://chat.example.com/path")));
        assert!(!allows(&["same-origin"], Some("https://user@chat.example.com")));
    }

    // Requirements: UH20.
    #[test]
    fn schemes_are_distinct() {
        assert!(!allows(&["same-origin"], Some("http://chat.example.com")));
        assert!(!allows(&["same-origin"], Some("http://chat.example.com:443")));
    }
}
