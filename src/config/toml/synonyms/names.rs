//! Former names, and names in nginx, HAProxy, Caddy and Traefik.

/// Names that do not exist here, and what does the same.
pub(crate) struct Synonym {
    /// The end of the path as written, without indices. Case, `_` and `-` do not matter.
    pub(super) names: &'static [&'static str],
    /// The keys to write instead, or tables.
    pub(super) keys: &'static [&'static str],
    /// What else to know; empty if the keys say it all.
    pub(super) note: &'static str,
}

const fn key(names: &'static [&'static str], keys: &'static [&'static str]) -> Synonym {
    Synonym { names, keys, note: "" }
}

const fn note(names: &'static [&'static str], note: &'static str) -> Synonym {
    Synonym { names, keys: &[], note }
}

/// The first entry that fits counts, so longer paths come before shorter ones.
pub(super) const SYNONYMS: &[Synonym] = &[
    // Former names.
    key(&["caps"], &["concurrency"]),
    key(&["heartbeat.backend_patience"], &["heartbeat.backend_timeout"]),
    key(&["heartbeat.patience"], &["heartbeat.timeout"]),
    key(&["limits.controls_from_backend"], &["limits.control_frames_from_backend"]),
    key(&["limits.controls_from_client"], &["limits.control_frames_from_client"]),
    key(&["limits.write_stall"], &["limits.write_timeout"]),
    key(&["limits.write_trickle"], &["limits.min_write_rate"]),
    key(&["lost_backends"], &["route[].on_backend_loss"]),
    key(&["timeouts.backend_answer"], &["timeouts.response_header"]),
    key(&["timeouts.head"], &["timeouts.request_header"]),
    key(&["timeouts.http_silence"], &["timeouts.idle"]),
    // Timeouts.
    key(&["heartbeat.client_interval"], &["heartbeat.interval"]),
    key(&["heartbeat.client_patience", "heartbeat.client_timeout"], &["heartbeat.timeout"]),
    key(&["ping_interval", "heartbeat_interval"], &["heartbeat.interval"]),
    key(&["ping_timeout", "pong_timeout"], &["heartbeat.timeout"]),
    key(
        &["dial", "dial_timeout", "connect_timeout", "proxy_connect_timeout", "timeout_connect"],
        &["timeouts.connect"],
    ),
    key(&["response_header_timeout"], &["timeouts.response_header"]),
    key(
        &["client_header_timeout", "read_header_timeout", "timeout_http_request"],
        &["timeouts.request_header"],
    ),
    key(&["keepalive_timeout", "timeout_http_keep_alive"], &["timeouts.keep_alive"]),
    Synonym {
        names: &["keepalive"],
        keys: &["timeouts.backend_keep_alive"],
        note: "connections to backends are always kept; keep_alive is for clients",
    },
    key(&["tls_timeout", "ssl_handshake_timeout", "handshake_timeout"], &["timeouts.tls"]),
    key(&["timeout_tunnel", "timeouts.tunnel"], &["limits.idle"]),
    key(&["timeouts.proxy_read"], &["timeouts.idle"]),
    Synonym {
        names: &[
            "read",
            "client",
            "read_timeout",
            "idle_timeout",
            "send_timeout",
            "proxy_read_timeout",
            "proxy_send_timeout",
            "client_body_timeout",
            "timeout_client",
            "timeout_server",
            "timeouts.server",
        ],
        keys: &["timeouts.idle", "limits.idle"],
        note: "the first is for plain requests, the second for tunnels",
    },
    key(
        &[
            "worker_shutdown_timeout",
            "shutdown_timeout",
            "hard_stop_after",
            "grace_period",
            "stream_close_delay",
        ],
        &["drain.deadline"],
    ),
    // Listeners and certificates.
    Synonym {
        names: &["[[server]]"],
        keys: &["listener[]", "route[]"],
        note: "the first has the address, the second a host and its backends; [server] has workers",
    },
    key(&["listen", "bind", "port", "entrypoint", "entrypoints"], &["listener[].address"]),
    Synonym {
        names: &["frontend", "frontends"],
        keys: &["listener[]", "route[]"],
        note: "the first has the address, the second a host, a path and its backends",
    },
    key(&["backends.ssl", "backends.tls", "backends.https"], &["pool[].tls"]),
    note(&["ssl", "https"], "nothing to write: a listener uses TLS unless it has tls = false"),
    Synonym {
        names: &["default_server", "default_sni"],
        keys: &["certificate[].default"],
        note: "default = true; a route for any other host has host = \"*\"",
    },
    note(
        &["sni", "host_sni"],
        "nothing to write: the names in a certificate decide which clients get it",
    ),
    key(&["accept_proxy", "listener.proxy_protocol"], &["listener[].proxy_protocol"]),
    key(&["return", "redir", "redirect_scheme", "force_https"], &["listener[].redirect"]),
    key(
        &["certificate", "certificates", "cert", "crt", "cert_file", "ssl_certificate", "tls_cert"],
        &["certificate[].chain"],
    ),
    key(
        &[
            "ssl_certificate_key",
            "certificate_key",
            "key_file",
            "private_key",
            "privkey",
            "tls_key",
            "ssl_key",
        ],
        &["certificate[].key"],
    ),
    Synonym {
        names: &["letsencrypt", "certresolver", "certificates_resolvers", "auto_https"],
        keys: &["acme"],
        note: "accept_terms = true; certificates for the hosts of the routes are then ordered",
    },
    note(
        &["ssl_protocols", "ssl_ciphers", "ciphers", "cipher_suites", "min_version", "ssl_min_ver"],
        "TLS versions and ciphers cannot be set: clients get TLS 1.3 or 1.2 with safe ciphers",
    ),
    key(&["http2", "h2", "alpn", "protocols"], &["listener[].http2"]),
    note(&["http3", "quic"], "clients are served with HTTP/1.1 and HTTP/2"),
    key(
        &["large_client_header_buffers", "client_header_buffer_size", "max_header_bytes"],
        &["listener[].request_head_size"],
    ),
    // Routes and backends.
    key(&["strict_transport_security", "sts_seconds"], &["route[].hsts"]),
    key(&["whitelist", "ip_allow_list", "source_range"], &["route[].allow"]),
    key(&["blacklist", "ip_deny_list"], &["route[].deny"]),
    key(&["error_page", "errorfile"], &["error_pages"]),
    key(
        &["server_name", "server_names", "hosts", "hostname", "domain", "domains"],
        &["route[].host"],
    ),
    key(
        &[
            "location",
            "locations",
            "path_prefix",
            "path_beg",
            "handle",
            "handle_path",
            "rule",
            "uri",
        ],
        &["route[].path"],
    ),
    key(
        &[
            "allowed_origins",
            "allow_origins",
            "allow_origin",
            "access_control_allow_origin",
            "cors",
        ],
        &["route[].origins"],
    ),
    key(&["backends.server", "backends.url", "backends.host"], &["route[].backends[].address"]),
    key(&["backends.name"], &["route[].backends[].id"]),
    key(
        &[
            "server",
            "servers",
            "backend",
            "upstream",
            "upstreams",
            "proxy_pass",
            "reverse_proxy",
            "default_backend",
            "use_backend",
            "load_balancer",
            "service",
            "services",
            "route.to",
            "route.target",
            "url",
        ],
        &["route[].backends"],
    ),
    key(
        &["lb_policy", "lb_algorithm", "load_balancing", "ip_hash", "least_conn", "balance_mode"],
        &["pool[].balance"],
    ),
    key(&["hash_type", "hash_key", "hash_on", "consistent_hash"], &["pool[].hash"]),
    note(
        &["sticky", "stickiness", "session_affinity"],
        "every client keeps its backend; to keep those together that share a cookie, write hash in [[pool]]",
    ),
    note(
        &["health_check", "health_uri", "check", "max_fails", "fail_timeout"],
        "nothing to write: a backend that refuses connections gets none until it accepts them again",
    ),
    key(&["proxy_ssl", "servers_transport"], &["pool[].tls"]),
    key(&["proxy_ssl_trusted_certificate", "ca_file", "root_cas"], &["pool[].tls.ca"]),
    key(&["proxy_ssl_name"], &["pool[].tls.server_name"]),
    key(&["verifyhost"], &["pool[].tls.verify_name"]),
    key(&["proxy_ssl_verify"], &["pool[].tls.insecure_skip_verify"]),
    key(&["send_proxy", "send_proxy_v2"], &["route[].proxy_protocol"]),
    note(
        &["upgrade", "websocket", "websockets", "proxy_http_version"],
        "nothing to write: every route accepts WebSockets",
    ),
    note(
        &["forwardfor", "x_forwarded_for", "pass_host_header"],
        "nothing to write: Host, X-Forwarded-For and X-Forwarded-Proto are always sent",
    ),
    key(&["underscores_in_headers"], &["route[].underscore_headers"]),
    key(
        &["proxy_set_header", "header_up", "custom_request_headers"],
        &["route[].request_headers.set"],
    ),
    key(
        &["add_header", "header_down", "custom_response_headers"],
        &["route[].response_headers.set"],
    ),
    Synonym {
        names: &["expires"],
        keys: &["route[].response_headers.set"],
        note: "\"Cache-Control: max-age=3600\", for example",
    },
    key(&["proxy_hide_header"], &["route[].response_headers.remove"]),
    Synonym {
        names: &["proxy_buffer_size", "proxy_buffers"],
        keys: &["route[].response_head_size"],
        note: "bodies are streamed and not buffered",
    },
    note(
        &["proxy_buffering", "flush_interval"],
        "nothing to write: responses are streamed as they arrive",
    ),
    // Limits.
    Synonym {
        names: &["client_max_body_size", "max_body_size"],
        keys: &["limits.message_from_client"],
        note: "it limits WebSocket messages; the bodies of plain requests are not limited",
    },
    key(
        &["max_message_size", "message_size", "max_payload", "max_message"],
        &["limits.message_from_client"],
    ),
    key(&["max_frame_size"], &["limits.frame_from_client"]),
    key(
        &["maxconn", "max_connections", "worker_connections", "limit_conn"],
        &["concurrency.connections", "concurrency.connections_per_client"],
    ),
    key(
        &["limit_req", "rate_limit"],
        &["rates.requests_per_client", "rates.handshakes_per_client"],
    ),
    // The process.
    key(&["worker_processes", "worker_threads", "threads", "nbthread"], &["server.workers"]),
    key(&["route.access_log"], &["route[].log_requests"]),
    key(&["access.file", "access.path", "access_log"], &["access.to"]),
    Synonym {
        names: &["error_log", "log_level"],
        keys: &["log.level"],
        note: "log messages go to standard error",
    },
    key(&["set_real_ip_from", "real_ip_from", "trusted_ips"], &["trusted_proxies.addresses"]),
    key(&["real_ip_header", "client_ip_headers"], &["trusted_proxies.header"]),
    key(&["stats", "metrics", "prometheus"], &["admin.address"]),
    key(&["stats_socket"], &["control.socket"]),
    note(
        &["user", "group", "pid", "daemon", "chroot"],
        "the service manager decides this: see the unit tidegate.service",
    ),
    note(&["resolver", "resolvers", "dns"], "names are resolved by the system"),
    // What does not exist.
    Synonym {
        names: &[
            "[http]",
            "stream",
            "events",
            "global",
            "defaults",
            "apps",
            "providers",
            "routers",
        ],
        keys: &["listener[]", "certificate[]", "route[]"],
        note: "this is a block of another program",
    },
    note(
        &["include", "includes", "import"],
        "there are no includes: write everything in this file",
    ),
    note(
        &["env", "environment", "variables", "map"],
        "variables are not filled in: write the values",
    ),
    note(
        &["root", "index", "try_files", "file_server", "alias"],
        "files are not served: let a backend do it",
    ),
    note(
        &["if", "match", "when"],
        "there are no conditions: routes differ by host and path prefix, the application does the rest",
    ),
    note(
        &["middlewares", "middleware"],
        "there are no middlewares: write keys of [[route]], such as allow, hsts, response_headers",
    ),
    note(
        &["rewrite", "strip_prefix", "uri_strip_prefix", "replace_path"],
        "there is no rewriting: paths are passed on unchanged",
    ),
    note(
        &["proxy_redirect", "sub_filter", "proxy_cookie_path", "proxy_cookie_domain"],
        "there is no rewriting: responses are passed on unchanged, let the application do it",
    ),
    note(
        &["gzip", "encode", "compress", "brotli"],
        "plain responses are passed on as they are; compression in [[route]] is about WebSockets",
    ),
    note(&["cache", "proxy_cache"], "responses are not cached"),
    note(
        &["auth_basic", "basic_auth", "forward_auth", "auth_request"],
        "tidegate does not authenticate: let the application do it",
    ),
];
