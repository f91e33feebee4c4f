//! Fields that applications believe because only proxies send them: they arrive from trusted proxies only.

use crate::forwarded_headers::{ForwardedSetup, PROXY, UNTRUSTED};

/// One of each kind in the table of docs/security.md.
const FIELDS: [&str; 60] = [
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-Protocol",
    "X-Forwarded-Server",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "Front-End-Https",
    "X-Scheme",
    "X-Url-Scheme",
    "X-Ssl",
    "X-Arr-Ssl",
    "WL-Proxy-SSL",
    "CloudFront-Forwarded-Proto",
    "Fly-Forwarded-Proto",
    "cf-visitor",
    "Fastly-SSL",
    "X-Original-Host",
    "X-Original-For",
    "X-Original-Proto",
    "X-Original-Forwarded-For",
    "X-Original-URI",
    "X-Script-Name",
    "X-Accel-Mapping",
    "X-Sendfile-Type",
    "X-Middleware-Subrequest",
    "$WSRA",
    "True-Client-IP",
    "X-True-Client-IP",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
    "X-Remote-Addr",
    "X-ProxyUser-Ip",
    "WL-Proxy-Client-IP",
    "CF-Connecting-IP",
    "CloudFront-Viewer-Address",
    "DO-Connecting-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-AppEngine-User-IP",
    "X-Azure-ClientIP",
    "X-Envoy-External-Address",
    "X-NF-Client-Connection-IP",
    "X-Vercel-Forwarded-For",
    "Client-Cert",
    "Client-Cert-Chain",
    "SSL-Client-Cert",
    "SSL-Client-Verify",
    "X-SSL-Client-S-DN",
    "X-SSL-Cert",
    "X-Client-Cert",
    "X-Client-Verify",
    "X-ARR-ClientCert",
    "X-Amzn-Mtls-Clientcert",
    "MS-ASPNETCORE-CLIENTCERT",
    "Remote-User",
    "X-Remote-User",
    "X-WebAuth-User",
    "X-MS-CLIENT-PRINCIPAL",
];

// Requirements: XF06.
#[tokio::test]
async fn claims_of_untrusted_clients_are_removed() {
    let setup = ForwardedSetup::new("", "").await;
    let lines = FIELDS.map(|name| format!("{name}: claimed"));
    let untrusted = setup.forwarded(UNTRUSTED, &lines.join("\r\n")).await;
    assert!(!untrusted.head.contains("claimed"), "{untrusted:?}");
    let trusted = setup.forwarded(PROXY, &lines.join("\r\n")).await;
    for name in FIELDS {
        assert_eq!(trusted.all(&name.to_ascii_lowercase()), "claimed", "{name}");
    }
}

/// From a trusted proxy either, because they replace the path by which the route was chosen.
// Requirements: XF06.
#[tokio::test]
async fn paths_of_other_proxies_are_always_removed() {
    let setup = ForwardedSetup::new("", "").await;
    for host in [UNTRUSTED, PROXY] {
        let lines = "X-Original-URL: /claimed\r\nX-Rewrite-URL: /claimed";
        let forwarded = setup.forwarded(host, lines).await;
        assert!(!forwarded.head.contains("claimed"), "{forwarded:?}");
    }
}

/// Names like those of proxies, which clients send themselves.
#[tokio::test]
async fn fields_of_clients_arrive() {
    let setup = ForwardedSetup::new("", "").await;
    let names = ["X-HTTP-Method-Override", "X-Client-Info", "X-Auth-Token", "CF-Access-Client-Id"];
    let lines = names.map(|name| format!("{name}: kept"));
    let forwarded = setup.forwarded(UNTRUSTED, &lines.join("\r\n")).await;
    for name in names {
        assert_eq!(forwarded.all(&name.to_ascii_lowercase()), "kept", "{name}");
    }
}
