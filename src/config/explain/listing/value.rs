//! Values as they would be written in the file.

use std::fmt::Display;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use ws::{AgeLimit, Limit, LimitAction, RateLimit};

use crate::config::settings::pool::OnBackendLoss;
use crate::config::values::units::{ByteSize, show_duration};

/// A value in TOML notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayValue {
    /// The text to show; credentials are hidden.
    pub text: String,
    /// The value to compare where it differs from the text: sorted lists, and unhidden credentials.
    /// Never shown.
    identity: Option<String>,
}

impl DisplayValue {
    /// Whether both values have the same meaning.
    pub fn is_same(&self, other: &Self) -> bool {
        let of = |shown: &'_ Self| shown.identity.clone().unwrap_or_else(|| shown.text.clone());
        of(self) == of(other)
    }
}

/// A value without quotes: a number, or `true` or `false`.
pub fn plain(value: impl Display) -> DisplayValue {
    DisplayValue { text: value.to_string(), identity: None }
}

/// A text in quotes.
pub fn text(value: impl Display) -> DisplayValue {
    plain(quoted(&value.to_string()))
}

/// A duration, for example `"30s"`.
pub fn duration(duration: Duration) -> DisplayValue {
    text(show_duration(duration))
}

/// A value, or `"off"` for `None`.
pub fn or_off<T>(value: Option<T>, show: impl Fn(T) -> DisplayValue) -> DisplayValue {
    value.map_or_else(|| text("off"), show)
}

/// A value, or `"auto"` for `None`.
pub fn or_auto<T>(value: Option<T>, show: impl Fn(T) -> DisplayValue) -> DisplayValue {
    value.map_or_else(|| text("auto"), show)
}

/// What happens to the tunnels of a lost backend.
pub fn on_backend_loss(policy: OnBackendLoss) -> DisplayValue {
    match policy {
        OnBackendLoss::Keep => text("keep"),
        OnBackendLoss::Drain => text("drain"),
        OnBackendLoss::CloseAfter(after) => duration(after),
    }
}

/// A list in which the order has no meaning.
pub fn list(items: impl IntoIterator<Item = String>) -> DisplayValue {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item)).collect();
    let mut sorted = items.clone();
    sorted.sort();
    DisplayValue { text: format!("[{}]", items.join(", ")), identity: Some(sorted.join("\n")) }
}

/// Header fields to set; values that look like credentials are hidden.
pub fn header_fields(fields: &[(HeaderName, HeaderValue)]) -> DisplayValue {
    let whole = |(name, value): &(HeaderName, HeaderValue)| {
        format!("{name}: {}", value.to_str().unwrap_or_default())
    };
    let shown = fields.iter().map(|field| match is_secret(field) {
        true => format!("{}: {HIDDEN}", field.0),
        false => whole(field),
    });
    DisplayValue { identity: list(fields.iter().map(whole)).identity, ..list(shown) }
}

/// Whether a field looks like it carries a credential.
fn is_secret((name, value): &(HeaderName, HeaderValue)) -> bool {
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    WORDS.iter().any(|word| name.as_str().contains(word))
        || SCHEMES.iter().any(|scheme| value.starts_with(scheme))
}

/// `"1MiB"`, or `{ max = "1MiB", action = "report" }`
pub fn limit(limit: Option<Limit>, show: impl Fn(u64) -> DisplayValue) -> DisplayValue {
    or_off(limit, |limit| max_with_action(show(limit.max), limit.action))
}

/// `"2m"`, or `{ max = "2m", action = "report" }`
pub fn max_age(limit: Option<AgeLimit>) -> DisplayValue {
    or_off(limit, |limit| max_with_action(duration(limit.max), limit.action))
}

/// `"50/s"`, or a table with burst and action if they differ from those of the `default` limit.
pub fn rate(
    rate: Option<RateLimit>,
    default: Option<RateLimit>,
    show: impl Fn(u64) -> DisplayValue,
) -> DisplayValue {
    or_off(rate, |rate| {
        let action = default.map_or(LimitAction::Delay, |default| default.action);
        let per_second = per_second(&show(rate.per_second.get()));
        if rate == RateLimit::new(rate.per_second.get(), action) {
            return per_second;
        }
        let (burst, action) = (show(rate.burst.get()).text, action_name(rate.action));
        let per_second = per_second.text;
        plain(format!("{{ rate = {per_second}, burst = {burst}, action = \"{action}\" }}"))
    })
}

/// An amount per second, for example `"64KiB/s"`.
pub fn per_second(amount: &DisplayValue) -> DisplayValue {
    text(format!("{}/s", amount.text.trim_matches('"')))
}

/// A size, for example `"1MiB"`.
pub fn size(bytes: u64) -> DisplayValue {
    text(ByteSize::new(bytes))
}

fn max_with_action(max: DisplayValue, action: LimitAction) -> DisplayValue {
    match action {
        LimitAction::Close => max,
        LimitAction::Delay | LimitAction::Report => {
            plain(format!("{{ max = {}, action = \"{}\" }}", max.text, action_name(action)))
        }
    }
}

fn action_name(action: LimitAction) -> &'static str {
    match action {
        LimitAction::Close => "close",
        LimitAction::Delay => "delay",
        LimitAction::Report => "report",
    }
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

const HIDDEN: &str = "(hidden)";
/// Parts of the names of fields that carry credentials.
const WORDS: [&str; 12] = [
    "auth",
    "cookie",
    "token",
    "key",
    "secret",
    "pass",
    "pwd",
    "credential",
    "session",
    "signature",
    "jwt",
    "bearer",
];
/// Authentication schemes with which credentials start (RFC 7617, RFC 7616, RFC 6750), whatever the
/// name of the field.
const SCHEMES: [&str; 3] = ["basic ", "bearer ", "digest "];

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    // Requirements: AD10.
    #[test]
    fn hides_credentials_but_keeps_them_distinguishable() {
        let set = |secret| {
            header_fields(&[
                field("x-env", "prod"),
                field("x-api-key", secret),
                field("x-to", "Bearer q7"),
            ])
        };
        let (one, other) = (set("s3cret"), set("s3cret-2"));
        assert_eq!(one.text, r#"["x-env: prod", "x-api-key: (hidden)", "x-to: (hidden)"]"#);
        assert_eq!(one.text, other.text);
        assert!(!one.is_same(&other) && one.is_same(&set("s3cret")));
        for name in ["authorization", "set-cookie", "x-auth-token", "x-client-secret", "x-password"]
        {
            assert!(is_secret(&field(name, "1")), "{name}");
        }
        assert!(!is_secret(&field("x-env", "prod")));
    }

    #[test]
    fn non_default_burst_and_action_are_shown() {
        let count = |rate| super::rate(rate, None, plain).text;
        assert_eq!(count(Some(RateLimit::new(50, LimitAction::Delay))), "\"50/s\"");
        assert_eq!(
            count(Some(RateLimit::new(50, LimitAction::Close))),
            r#"{ rate = "50/s", burst = 100, action = "close" }"#
        );
        let bytes = super::rate(Some(RateLimit::new(2048, LimitAction::Report)), None, size).text;
        assert_eq!(bytes, r#"{ rate = "2KiB/s", burst = "4KiB", action = "report" }"#);
        let report = Limit { max: 1024, action: LimitAction::Report };
        assert_eq!(limit(Some(report), size).text, r#"{ max = "1KiB", action = "report" }"#);
        assert_eq!(
            (limit(None, size).text.as_str(), limit(Some(Limit::close(7)), plain).text.as_str()),
            ("\"off\"", "7")
        );
    }

    #[test]
    fn lists_are_unordered_and_text_is_escaped() {
        let of = |items: [&str; 2]| list(items.map(str::to_owned));
        assert!(
            of(["a", "b"]).is_same(&of(["b", "a"])) && !of(["a", "b"]).is_same(&of(["a", "c"]))
        );
        assert_eq!(text("a\"\\\n").text, "\"a\\\"\\\\\\u000A\"");
    }
}
