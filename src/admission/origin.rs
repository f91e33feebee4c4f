//! The `Origin` check (RFC 6455 10.2): which web pages may open WebSockets. Complete, normalised
//! origins are compared, except that `*.` stands for any subdomain; other texts byte by byte.

use crate::config::values::origin::Origin;
use crate::config::values::origin_rule::{OriginRule, entries_for};
use crate::reject::OriginMismatch;

/// The `origins` list of a route.
#[derive(Clone, Debug)]
pub struct OriginRules(Vec<OriginRule>);

impl OriginRules {
    /// Takes a validated list.
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Checks the `Origin` header of a handshake. `own` is the origin of a page from the host that
    /// the request was sent to.
    ///
    /// # Errors
    /// What the origin differs in, for the record.
    pub fn check(&self, header: Option<&str>, own: &Origin) -> Result<(), OriginMismatch> {
        if self.allows(header, own) {
            return Ok(());
        }
        let Some(header) = header else { return Err(OriginMismatch::Missing) };
        let same_origin = self.0.contains(&OriginRule::SameOrigin);
        let is_upgraded = |origin: Origin| {
            own.scheme == "http" && origin.scheme == "https" && origin.host == own.host
        };
        if same_origin && Origin::parse(header).is_ok_and(is_upgraded) {
            return Err(OriginMismatch::Scheme);
        }
        Err(OriginMismatch::NotListed)
    }

    /// Describes the mismatch of a header for the record: the entry that would allow it, and what
    /// `same-origin` stands for, unless that is the usual `https`.
    pub fn describe(&self, mismatch: OriginMismatch, header: Option<&str>, own: &Origin) -> String {
        let mut text = match (mismatch, header.and_then(entries_for)) {
            (OriginMismatch::NotListed, Some(entries)) => {
                format!("origin not allowed by this route; to allow it, add {entries}")
            }
            (_, _) => mismatch.to_string(),
        };
        let is_usual = mismatch == OriginMismatch::Missing || own.scheme == "https";
        if !is_usual && self.0.contains(&OriginRule::SameOrigin) {
            text.push_str(&format!("; same-origin is {own}"));
        }
        text
    }

    fn allows(&self, header: Option<&str>, own: &Origin) -> bool {
        self.0.iter().any(|rule| match header {
            Some(header) => rule.allows(header, own),
            None => matches!(rule, OriginRule::Missing | OriginRule::Any),
        })
    }
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

    #[test]
    fn scheme_is_blamed_only_for_pages_of_the_same_host() {
        let check = |rules: &[&str], header: Option<&str>, own: &str| {
            let rules = rules.iter().map(|rule| OriginRule::parse(rule).unwrap()).collect();
            OriginRules::new(rules).check(header, &Origin::parse(own).unwrap()).unwrap_err()
        };
        let (page, behind_tls) = (Some("https://a.example:8443"), "http://a.example");
        assert_eq!(check(&["same-origin"], page, behind_tls), OriginMismatch::Scheme);
        for (rules, header, own) in [
            ("missing", page, behind_tls),
            ("same-origin", Some("https://b.example"), behind_tls),
            ("same-origin", Some("http://a.example"), "https://a.example"),
            ("same-origin", Some("https://a.example:1"), "https://a.example"),
            ("same-origin", Some("null"), behind_tls),
        ] {
            assert_eq!(check(&[rules], header, own), OriginMismatch::NotListed, "{header:?}");
        }
        assert_eq!(check(&["same-origin"], None, behind_tls), OriginMismatch::Missing);
    }

    // Requirements: UH20.
    #[test]
    fn schemes_are_distinct() {
        assert!(!allows(&["same-origin"], Some("http://chat.example.com")));
        assert!(!allows(&["same-origin"], Some("http://chat.example.com:443")));
    }
}
