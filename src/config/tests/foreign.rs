//! Configurations of other programs, pasted into the file.

use super::*;

/// The error that a block causes below a valid configuration, and its line there.
fn error_of(block: &str) -> String {
    let text = format!("{PLAIN}{block}");
    let diagnostics = Settings::parse(&text, "proxy.toml").expect_err("errors");
    let lines: Vec<String> = diagnostics.lines().collect();
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    line.clone()
}

// Requirements: CF03.
#[test]
fn a_pasted_block_is_one_error() {
    let first = PLAIN.lines().count() + 1;
    for (format, page, block) in [
        (
            "a configuration of nginx",
            "docs/from-nginx.md",
            "server {  # site\n    listen 443 ssl;\n    location / {\n        proxy_pass http://10.0.0.1;\n\
             proxy_set_header Host $host;\n        add_header X \"a=b\";\n    }\n}\n\
             upstream a { server 10.0.0.1:80 weight=2; }\n",
        ),
        (
            "a configuration of Caddy",
            "docs/from-caddy.md",
            "a.example {\n    reverse_proxy localhost:9001\n    header X-Env \"prod\"\n}\n",
        ),
        (
            "a configuration of HAProxy",
            "docs/from-haproxy.md",
            "defaults\n    mode http\n    timeout client 30s\nfrontend a\n    bind *:443 ssl crt /x.pem\n\
             backend b\n    server a 10.0.0.1:80 check\n",
        ),
        (
            "YAML",
            "docs/configuration.md",
            "http:\n  routers:\n    chat:\n      rule: \"Host(`a.example`)\"\n      to:\n        - web\n",
        ),
    ] {
        let expected = format!(
            "proxy.toml:{first}:1: this looks like {format}, but this file is TOML (write KEY = VALUE below \
             [TABLE]; {page} has the keys)"
        );
        assert_eq!(error_of(block), expected);
    }
}

// Requirements: CF03.
#[test]
fn other_syntax_errors_stay_as_they_are() {
    assert_eq!(error_of("tls\n"), "proxy.toml:12:4: key with no value, expected `=`");
    let found = errors_below("name = chat\nlisten 443 ssl;\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("nginx") && found[0].contains("in double quotes"), "{found:?}");
}
