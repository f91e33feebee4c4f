//! Limits that another limit makes ineffective.

use super::*;

// Requirements: CF12, FC40.
#[test]
fn utf8_check_requires_uncompressed_messages() {
    let problem = "route[0].utf8: compressed messages are not checked, so clients must not compress \
                   (add compression = \"strip\" to this route)";
    for compression in ["", "compression = \"inspect\"\n", "compression = \"pass\"\n"] {
        assert_eq!(errors_below(&format!("{compression}utf8 = \"check\"")), [problem]);
        parse(&format!("{PLAIN}{compression}utf8 = \"off\"\n"));
    }
    let settings = parse(&format!("{PLAIN}compression = \"strip\"\nutf8 = \"check\"\n"));
    assert!(settings.routes[0].policy.utf8);
    assert!(!parse(PLAIN).routes[0].policy.utf8);
}

// Requirements: CF12.
#[test]
fn message_limit_must_fit_into_its_fragments() {
    let limits = |message: &str, frame: &str, fragments: &str, side: &str| {
        format!(
            "[route.limits]\nmessage_from_{side} = {message}\nframe_from_{side} = {frame}\n\
             fragments_from_{side} = {fragments}"
        )
    };
    let problem = |key: &str, side: &str| {
        format!(
            "route[0].limits.{key}: limits.message_from_{side} = 1MiB can never be reached: \
             limits.fragments_from_{side} = 16 and limits.frame_from_{side} = 4KiB allow at \
             most 64KiB (write at most \"64KiB\", or raise limits.fragments_from_{side} or limits.frame_from_{side})"
        )
    };
    let pass = |limits: &str| format!("compression = \"pass\"\n{limits}");
    let [client, backend] =
        ["client", "backend"].map(|side| limits("\"1MiB\"", "\"4KiB\"", "16", side));
    let long = limits("{ max = \"1MiB\" }", "{ max = \"4KiB\" }", "{ max = 16 }", "backend");
    assert_eq!(errors_below(&pass(&long)), [problem("message_from_backend.max", "backend")]);
    for compression in ["pass", "strip"] {
        for (side, limits) in [("client", &client), ("backend", &backend)] {
            let errors = errors_below(&format!("compression = \"{compression}\"\n{limits}"));
            assert_eq!(errors, [problem(&format!("message_from_{side}"), side)]);
        }
    }
    let report = "{ max = 16, action = \"report\" }";
    for valid in [
        // The decompressed size may reach the limit.
        client.clone(),
        backend.clone(),
        client.replace("[route.limits]", "[limits]"),
        pass(&limits("\"64KiB\"", "\"4KiB\"", "16", "backend")),
        pass(&limits("\"1MiB\"", "\"4KiB\"", "\"off\"", "backend")),
        pass(&limits("\"1MiB\"", "\"4KiB\"", report, "backend")),
        // The default does not count.
        pass(&backend.replace("message_from_backend = \"1MiB\"\n", "")),
    ] {
        parse(&format!("{PLAIN}{valid}\n"));
    }
    let top_level = client.replace("[route.limits]", "[limits]");
    assert_eq!(errors_below(&pass(&top_level)).len(), 1);
}

// Requirements: CF12.
#[test]
fn warns_about_limits_beyond_the_tunnel_lifetime() {
    assert_eq!(
        errors_below(
            "[limits]\nlifetime = \"1h\"\nmessage_age_from_client = \"2h\"\n\
             message_age_from_backend = { max = \"61m\", action = \"report\" }\n\
             close_grace = \"40s\"\n[drain]\ndeadline = \"39s\""
        ),
        [
            "limits.message_age_from_client: limits.message_age_from_client = 2h is longer than \
             limits.lifetime = 1h \
             (the tunnel has ended by then: write at most \"1h\", or raise limits.lifetime)",
            "limits.message_age_from_backend.max: limits.message_age_from_backend = 61m is longer \
             than limits.lifetime = 60m \
             (the tunnel has ended by then: write at most \"60m\", or raise limits.lifetime)",
            "limits.close_grace: limits.close_grace = 40s is longer than drain.deadline = 39s \
             (the tunnel has ended by then: write at most \"39s\", or raise drain.deadline)",
        ]
    );
    let own = "[route.limits]\nclose_grace = \"1m\"\n[drain]\ndeadline = \"30s\"";
    assert!(errors_below(own)[0].starts_with("route[0].limits.close_grace: "));
    for valid in [
        // Defaults do not count.
        "[limits]\nlifetime = \"41s\"",
        "[limits]\nclose_grace = \"1h\"",
        "[drain]\nwindow = \"1s\"\ndeadline = \"2s\"",
        "[limits]\nlifetime = \"1h\"\nmessage_age_from_client = \"1h\"",
        "[limits]\nlifetime = \"off\"\nmessage_age_from_client = \"2h\"",
        "[limits]\nmessage_age_from_client = \"2h\"\n[route.limits]\nlifetime = \"1h\"",
        "[limits]\nclose_grace = \"30s\"\n[drain]\ndeadline = \"30s\"",
    ] {
        parse(&format!("{PLAIN}{valid}\n"));
    }
}

// Requirements: CF12.
#[test]
fn byte_burst_must_hold_one_message() {
    let problem = "limits.bytes_from_client closes the tunnel after a burst of 128KiB, but \
                   limits.message_from_client = 1MiB allows larger messages \
                   (every larger message would close the tunnel: write burst = \"2MiB\", \
                   or action = \"delay\", which slows reading down)";
    let message = "message_from_client = \"1MiB\"";
    let bytes = "bytes_from_client = { rate = \"64KiB/s\", action = \"close\" }";
    let errors = errors_below(&format!("[limits]\n{message}\n{bytes}"));
    assert_eq!(errors, [format!("limits.bytes_from_client: {problem}")]);
    // On a route, reported at the key that the route sets.
    let errors = errors_below(&format!("[route.limits]\n{bytes}\n[limits]\n{message}"));
    assert_eq!(errors, [format!("route[0].limits.bytes_from_client: {problem}")]);
    let errors = errors_below(&format!("[route.limits]\n{message}\n[limits]\n{bytes}"));
    assert_eq!(errors, [format!("route[0].limits.message_from_client: {problem}")]);
    for valid in [
        bytes.to_owned(),
        format!("{message}\nbytes_from_client = \"64KiB/s\""),
        format!("{message}\n{}", bytes.replace("close", "report")),
        format!("{message}\n{}", bytes.replace(", action", ", burst = \"1MiB\", action")),
        format!("message_from_client = \"off\"\n{bytes}"),
        format!("message_from_backend = \"1MiB\"\n{bytes}"),
    ] {
        parse(&format!("{PLAIN}[limits]\n{valid}\n"));
    }
}

// Requirements: CF12.
#[test]
fn tunnels_per_client_must_not_exceed_connections() {
    let errors = |lines: &str| errors_below(&format!("[concurrency]\n{lines}"));
    let help = |cap, number| {
        format!(
            "(each tunnel is a connection: write at most {cap}, \
             or raise concurrency.connections_per_client to at least {number})"
        )
    };
    assert_eq!(
        errors("connections_per_client = 10\ntunnels_per_client = 11"),
        [format!(
            "concurrency.tunnels_per_client: 11 is more than concurrency.connections_per_client = 10 {}",
            help(10, 11)
        )]
    );
    assert_eq!(
        errors("tunnels_per_client = 3000"),
        [format!(
            "concurrency.tunnels_per_client: 3000 is more than concurrency.connections_per_client = 2048 \
             (default) {}",
            help(2048, 3000)
        )]
    );
    // Reported once.
    assert_eq!(errors("connections = 100\ntunnels_per_client = 3000").len(), 1);
    for valid in [
        "connections_per_client = 10",
        "connections_per_client = 10\ntunnels_per_client = 10",
        // Clients behind a trusted proxy share its connections.
        "tunnels_per_client = 600\n[trusted_proxies]\naddresses = [\"10.0.0.1\"]",
    ] {
        parse(&format!("{PLAIN}[concurrency]\n{valid}\n"));
    }
}

// Requirements: CF12.
#[test]
fn health_path_must_not_shadow_a_route() {
    let with = |health: &str, route: &str| {
        let text = PLAIN.replace("443\"", &format!("443\"\nhealth_path = \"{health}\""));
        format!("{text}path = \"{route}\"\n")
    };
    for health in ["/ws", "/ws/"] {
        assert_eq!(
            errors(&with(health, "/ws")),
            [format!(
                "listener[0].health_path: requests for \"{health}\" are answered as health checks, so route[0] would not receive them (choose a path that no route has)"
            )]
        );
    }
    assert_eq!(
        errors(&with("/", "/")),
        ["listener[0].health_path: \"/\" is the path of the application's start page \
          (write a separate path such as \"/healthz\")"]
    );
    parse(&with("/ws/health", "/ws"));
    parse(&with("/healthz", "/"));
}
