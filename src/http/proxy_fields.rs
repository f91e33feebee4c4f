//! Header fields that only a proxy may send.

/// Whether only a proxy may send the field with this name, in lower case: the forwarded headers that this
/// proxy writes itself, and those by which other proxies report a client, its certificate or its user. A
/// client's copy is removed. `docs/security.md` says who reads them.
pub fn is_proxy_field(name: &str) -> bool {
    match name.strip_prefix("x-") {
        Some(rest) => has_prefix(rest, &X_PREFIXES) || X_NAMES.contains(&rest),
        None => has_prefix(name, &PREFIXES) || NAMES.contains(&name),
    }
}

fn has_prefix(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Starts of names, without `x-`.
const X_PREFIXES: [&str; 20] = [
    "accel-",
    "amzn-mtls-",
    "amzn-oidc-",
    "appengine-",
    "arr-",
    "auth-request-",
    "authentik-",
    "client-cert",
    "consumer-",
    "envoy-",
    "forwarded-",
    "goog-authenticated-user-",
    "ms-client-principal",
    "ms-token-",
    "original-",
    "pomerium-",
    "remote-",
    "ssl-",
    "vercel-",
    "webauth-",
];

/// Whole names, without `x-`.
const X_NAMES: [&str; 23] = [
    "authenticated-userid",
    "azure-clientip",
    "azure-socketip",
    "client-dn",
    "client-ip",
    "client-verify",
    "cluster-client-ip",
    "credential-identifier",
    "forwarded",
    "middleware-subrequest",
    "nf-client-connection-ip",
    "proxyuser-ip",
    "real-ip",
    "request-id",
    "rewrite-url",
    "scheme",
    "script-name",
    "sendfile-type",
    "ssl",
    "sucuri-clientip",
    "true-client-ip",
    "tls-client-cert",
    "url-scheme",
];

/// Starts of names.
const PREFIXES: [&str; 9] = [
    // Between WebSphere and its web server plug-in.
    "$ws",
    "cloudfront-",
    "fly-forwarded-",
    "ms-aspnetcore-",
    // CGI maps `Proxy` to the variable HTTP_PROXY.
    "proxy-",
    "remote-",
    "ssl-client-",
    "tailscale-user-",
    "wl-proxy-",
];

/// Whole names.
const NAMES: [&str; 23] = [
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-access-authenticated-user-email",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "do-connecting-ip",
    // RFC 8470 5.1: only a server that accepts early data may send it.
    "early-data",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "host",
    "incap-client-ip",
    "proxy",
    "true-client-ip",
];

/// Whether this proxy writes the field itself, or no hop may forward it. The others that belong to proxies
/// (`X-Forwarded-User`, `X-Forwarded-Prefix`, `CF-Connecting-IP`) are forwarded from a trusted proxy:
/// applications behind an authenticating proxy need them. From any other peer they could claim a user or an
/// address.
pub fn is_rewritten_field(name: &str) -> bool {
    name.starts_with("proxy-")
        || matches!(
            name,
            "forwarded"
                | "host"
                | "proxy"
                | "x-forwarded-for"
                | "x-forwarded-host"
                | "x-forwarded-port"
                | "x-forwarded-proto"
                // They replace the path by which the route was chosen.
                | "x-original-url"
                | "x-real-ip"
                | "x-request-id"
                | "x-rewrite-url"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::forwarded::client_address::CLIENT_ADDRESS_HEADERS;

    #[test]
    fn untrusted_peers_cannot_send_client_addresses() {
        assert!(CLIENT_ADDRESS_HEADERS.into_iter().all(is_proxy_field));
    }

    #[test]
    fn rewritten_fields_belong_to_proxies() {
        for name in ["forwarded", "host", "proxy-user", "x-forwarded-for", "x-rewrite-url"] {
            assert!(is_rewritten_field(name) && is_proxy_field(name), "{name}");
        }
        for name in ["x-forwarded-user", "cf-connecting-ip", "early-data", "true-client-ip"] {
            assert!(!is_rewritten_field(name) && is_proxy_field(name), "{name}");
        }
    }

    #[test]
    fn forwarding_fields_belong_to_proxies() {
        for name in ["x-forwarded-for", "x-forwarded-x", "x-real-ip", "proxy", "host", "forwarded"]
        {
            assert!(is_proxy_field(name), "{name}");
        }
        for name in ["x-token", "x-forward", "cookie", "x_forwarded_for", "proxied"] {
            assert!(!is_proxy_field(name), "{name}");
        }
    }

    /// Fields that clients send themselves, with names like those of proxies.
    #[test]
    fn fields_of_clients_pass() {
        for name in [
            "authorization",
            "cdn-loop",
            "cf-access-client-id",
            "fly-prefer-region",
            "sec-fetch-site",
            "traceparent",
            "upgrade-insecure-requests",
            "via",
            "x-api-key",
            "x-auth-token",
            "x-auth-user",
            "x-azure-fdid",
            "x-client-info",
            "x-client-version",
            "x-correlation-id",
            "x-csrf-token",
            "x-http-method-override",
            "x-requested-with",
            "x-user-id",
        ] {
            assert!(!is_proxy_field(name), "{name}");
        }
    }
}
