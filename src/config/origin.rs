//! Origins (RFC 6454): parsed once, compared exactly.

/// A serialised origin, normalised: lower-case scheme and host, the port always present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `https`, `http`, or another scheme as written.
    pub scheme: String,
    /// Host in its ASCII form; IPv6 in brackets.
    pub host: String,
    /// The port, or the scheme's default one; `None` for a scheme without one.
    pub port: Option<u16>,
}

/// One entry of a route's `origins`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OriginRule {
    /// `"*"`: any Origin, or none.
    Any,
    /// `"same-origin"`: scheme, host and port of the request itself.
    SameOrigin,
    /// `"null"`: the opaque origin (sandboxed frames, local files).
    Null,
    /// `"missing"`: no Origin header (programs that are no browsers).
    Missing,
    /// Exactly this one.
    Exact(Origin),
    /// Any name below this host, same scheme and port: `https://*.example.com`.
    Subdomains(Origin),
}
