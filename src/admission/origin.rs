//! Which pages may open WebSockets here (RFC 6455 10.2). Origins are compared whole, after
//! normalisation; never by prefix, suffix or pattern.

use crate::config::values::origin::{Origin, OriginRule};

/// A route's list.
#[derive(Clone, Debug)]
pub struct OriginRules(Vec<OriginRule>);

impl OriginRules {
    /// A list that validation found sound.
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Whether a handshake with this `Origin` header is welcome; `own` is the origin that the
    /// request itself was sent to, as a page of the same site would have it.
    pub fn welcome(&self, header: Option<&str>, own: &Origin) -> bool {
        let Some(header) = header else {
            return self.0.iter().any(|rule| matches!(rule, OriginRule::Missing | OriginRule::Any));
        };
        // RFC 6454 6.2: a browser sends one serialised origin, or `null`; anything else that does
        // not parse equals nothing, but `"*"` takes it all the same.
        let origin = Origin::parse(header).ok();
        self.0.iter().any(|rule| match rule {
            OriginRule::Any => true,
            OriginRule::Missing => false,
            OriginRule::Null => header == "null",
            OriginRule::SameOrigin => origin.as_ref() == Some(own),
            OriginRule::Exact(listed) => origin.as_ref() == Some(listed),
            OriginRule::Subdomains(parent) => origin.as_ref().is_some_and(|o| is_below(o, parent)),
        })
    }
}

/// One or more whole labels below the parent, same scheme and port; never the parent itself.
fn is_below(origin: &Origin, parent: &Origin) -> bool {
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

    fn welcome(rules: &[&str], header: Option<&str>) -> bool {
        let rules = rules.iter().map(|rule| OriginRule::parse(rule).unwrap()).collect();
        let own = Origin::parse("https://chat.example.com").unwrap();
        OriginRules::new(rules).welcome(header, &own)
    }

    // Requirements: UH15.
    #[test]
    fn missing_origin_is_a_separate_choice() {
        assert!(!welcome(&["same-origin", "null"], None));
        assert!(welcome(&["missing"], None));
        assert!(welcome(&["*"], None));
    }

    // Requirements: UH16.
    #[test]
    fn null_origin_is_a_separate_choice() {
        assert!(!welcome(&["same-origin", "missing"], Some("null")));
        assert!(welcome(&["null"], Some("null")));
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
            assert!(!welcome(&rules, Some(header)), "{header}");
        }
        assert!(welcome(&rules, Some("https://good.example")));
        assert!(welcome(&rules, Some("https://a.b.good.example")));
        assert!(!welcome(&["https://*.good.example"], Some("https://good.example")));
    }

    // Requirements: UH18.
    #[test]
    fn origins_are_compared_after_normalisation() {
        assert!(welcome(&["same-origin"], Some("HTTPS://Chat.Example.COM:443")));
        assert!(!welcome(&["same-origin"], Some("https://chat.example.com/")));
        assert!(!welcome(&["same-origin"], Some("https://chat.example.com/path")));
        assert!(!welcome(&["same-origin"], Some("https://user@chat.example.com")));
    }

    // Requirements: UH20.
    #[test]
    fn schemes_are_distinct() {
        assert!(!welcome(&["same-origin"], Some("http://chat.example.com")));
        assert!(!welcome(&["same-origin"], Some("http://chat.example.com:443")));
    }
}
