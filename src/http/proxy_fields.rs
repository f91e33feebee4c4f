//! Header fields that only a proxy may send.

/// Whether only a proxy may send the field with this name, in lower case: the forwarded headers that this
/// proxy writes itself, and those by which other proxies report a client. A client's copy is removed.
pub fn is_proxy_field(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        // CGI maps `Proxy` to the variable HTTP_PROXY.
        || name.starts_with("proxy-")
        || matches!(
            name,
            "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "cf-pseudo-ipv4"
                | "client-ip"
                | "do-connecting-ip"
                // RFC 8470 5.1: only a server that accepts early data may send it.
                | "early-data"
                | "fastly-client-ip"
                | "fly-client-ip"
                | "forwarded"
                | "forwarded-for"
                | "host"
                | "proxy"
                | "true-client-ip"
                | "x-appengine-user-ip"
                | "x-azure-clientip"
                | "x-azure-socketip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-envoy-external-address"
                | "x-forwarded"
                | "x-original-forwarded-for"
                | "x-original-url"
                | "x-real-ip"
                | "x-remote-addr"
                | "x-remote-ip"
                | "x-request-id"
                | "x-rewrite-url"
        )
}

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
}
