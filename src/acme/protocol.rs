//! The documents of RFC 8555 that are read, and the problems that authorities report.

use std::fmt::Write as _;

use serde::Deserialize;

/// The directory (RFC 8555 7.1.1).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    pub new_nonce: String,
    pub new_account: String,
    pub new_order: String,
    /// Where renewal times are suggested (RFC 9773 4.1).
    pub renewal_info: Option<String>,
}

/// The status of an order or authorization; others are invalid as well.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AcmeStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    /// `invalid`, and those that end an authorization.
    #[serde(other)]
    Invalid,
}

/// An order (RFC 8555 7.1.3).
#[derive(Clone, Debug, Deserialize)]
pub struct AcmeOrder {
    pub status: AcmeStatus,
    #[serde(default)]
    pub authorizations: Vec<String>,
    pub finalize: String,
    pub certificate: Option<String>,
    pub error: Option<AcmeProblem>,
}

/// An authorization (RFC 8555 7.1.4).
#[derive(Clone, Debug, Deserialize)]
pub struct Authorization {
    pub status: AcmeStatus,
    pub identifier: Identifier,
    #[serde(default)]
    pub challenges: Vec<Challenge>,
}

impl Authorization {
    /// Which of the names of a certificate it is for; a wildcard is authorized without its star.
    ///
    /// # Errors
    /// It is for something else. An authority must not choose the names that a DNS hook writes.
    pub fn name_of<'n>(&self, names: &'n [String]) -> Result<&'n str, String> {
        let Identifier { kind, value } = &self.identifier;
        let mut bases = names.iter().map(|name| name.strip_prefix("*.").unwrap_or(name));
        let found = bases.find(|base| kind == "dns" && value.eq_ignore_ascii_case(base));
        found.ok_or_else(|| {
            format!("the authority wants {kind} {value:?} authorized, which was not ordered")
        })
    }

    /// The challenge of this kind.
    ///
    /// # Errors
    /// The authority does not offer it, or its token is not base64url (RFC 8555 8.1).
    pub fn challenge(&self, kind: &str) -> Result<&Challenge, String> {
        let challenge = self.challenges.iter().find(|of| of.kind == kind).ok_or_else(|| {
            let offered: Vec<&str> = self.challenges.iter().map(|of| &*of.kind).collect();
            format!("the authority offers no {kind}, only {}", offered.join(", "))
        })?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match challenge.token.len() {
            1..=TOKEN_BYTES_MAX if challenge.token.bytes().all(is_token) => Ok(challenge),
            _ => Err(format!("the token of the {kind} challenge is not valid base64url")),
        }
    }
}

/// What an authorization is for, without the star of a wildcard (RFC 8555 9.7.7).
#[derive(Clone, Debug, Deserialize)]
pub struct Identifier {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// A challenge (RFC 8555 7.1.5).
#[derive(Clone, Debug, Deserialize)]
pub struct Challenge {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    #[serde(default)]
    pub token: String,
    pub status: AcmeStatus,
    pub error: Option<AcmeProblem>,
}

/// A suggested renewal time (RFC 9773 4.2).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfo {
    pub suggested_window: SuggestedWindow,
    #[serde(rename = "explanationURL")]
    pub explanation_url: Option<String>,
}

/// The first and the last moment to renew, in RFC 3339.
#[derive(Clone, Debug, Deserialize)]
pub struct SuggestedWindow {
    pub start: String,
    pub end: String,
}

/// A problem document (RFC 7807, RFC 8555 6.7).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AcmeProblem {
    #[serde(rename = "type")]
    pub kind: String,
    pub detail: String,
    pub subproblems: Vec<AcmeProblem>,
}

impl AcmeProblem {
    /// The type without its prefix, for example `rateLimited`.
    pub fn kind(&self) -> &str {
        self.kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&self.kind)
    }

    /// What the authority says, in one line.
    pub fn text(&self) -> String {
        let mut text = format!("{} ({})", self.detail, self.kind());
        for of in self.subproblems.iter().filter(|of| !of.detail.is_empty()) {
            let _ = write!(text, "; {} ({})", of.detail, of.kind());
        }
        one_line(&text)
    }
}

/// A text of the authority without control characters, and not longer than a log line should be.
pub fn one_line(text: &str) -> String {
    let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown.replace(|c: char| c.is_control(), " ")
}

const TEXT_CHARS_MAX: usize = 600;
/// Authorities send 22 to 43.
const TOKEN_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_keep_the_words_of_the_authority() {
        let problem: AcmeProblem = serde_json::from_str(
            r#"{"type": "urn:ietf:params:acme:error:malformed", "detail": "two\nlines", "status": 400,
                "subproblems": [{"type": "urn:ietf:params:acme:error:dns", "detail": "no such name"}]}"#,
        )
        .unwrap();
        assert_eq!(problem.text(), "two lines (malformed); no such name (dns)");
        let long = AcmeProblem { detail: "ä".repeat(10_000), ..AcmeProblem::default() };
        assert!(long.text().len() < 2000);
    }

    #[test]
    fn unknown_states_count_as_invalid() {
        let status = |text: &str| serde_json::from_str::<AcmeStatus>(text).unwrap();
        assert_eq!(status("\"ready\""), AcmeStatus::Ready);
        for ended in ["\"deactivated\"", "\"expired\"", "\"revoked\"", "\"invalid\"", "\"new\""] {
            assert_eq!(status(ended), AcmeStatus::Invalid);
        }
    }

    fn authorization(kind: &str, value: &str, token: &str) -> Authorization {
        let document = serde_json::json!({
            "status": "pending",
            "identifier": { "type": kind, "value": value },
            "challenges": [{ "type": "dns-01", "url": "", "token": token, "status": "pending" }],
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn authorities_do_not_choose_names() {
        let names = ["a.test".to_owned(), "*.b.test".to_owned()];
        let named = |kind, value| authorization(kind, value, "x").name_of(&names).ok();
        assert_eq!(named("dns", "a.test"), Some("a.test"));
        assert_eq!(named("dns", "A.test"), Some("a.test"));
        assert_eq!(named("dns", "b.test"), Some("b.test"));
        let others = [
            ("dns", "c.test"),
            ("dns", "*.b.test"),
            ("dns", "x.a.test"),
            ("dns", "a.test 60 TXT x\nupdate delete www.a.test A\n"),
            ("ip", "a.test"),
        ];
        for (kind, value) in others {
            assert_eq!(named(kind, value), None, "{value}");
        }
    }

    #[test]
    fn tokens_are_base64url() {
        let is_accepted =
            |token: &str| authorization("dns", "a.test", token).challenge("dns-01").is_ok();
        assert!(is_accepted("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"));
        for token in ["", "a/b", "../x", "a b", "a\n", "a=", &"x".repeat(257)] {
            assert!(!is_accepted(token), "{token:?}");
        }
        assert!(authorization("dns", "a.test", "x").challenge("http-01").is_err());
    }
}
