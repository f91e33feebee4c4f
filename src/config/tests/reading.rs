//! Reading a file: defaults, syntax errors, and wrong types and units.

use super::*;
use crate::config::settings::Settings;
use crate::config::settings::rates::RateSettings;

#[test]
fn defaults_limit_clients() {
    let settings = Settings::parse(PLAIN, "/etc/tidegate/proxy.toml").unwrap();
    let route = &settings.routes[0];
    let policy = &route.policy;
    assert_eq!(policy.from_client.message.map(|cap| cap.max), Some(16 << 20));
    assert_eq!(policy.from_backend.message.map(|cap| cap.max), None);
    let heartbeat = policy.heartbeat_client.unwrap();
    assert_eq!(heartbeat.interval, Duration::from_secs(30));
    assert_eq!(heartbeat.timeout, Duration::from_secs(10));
    assert_eq!(policy.idle, Some(Duration::from_secs(3600)));
    assert_eq!(policy.close_grace, Duration::from_secs(5));
    assert_eq!(policy.write_timeout, Duration::from_secs(30));
    assert_eq!(policy.drain_code, CloseCode::SERVICE_RESTART);
    assert_eq!(settings.timeouts.tls, Duration::from_secs(10));
    assert_eq!(settings.timeouts.request_header, Duration::from_secs(10));
    assert_eq!(settings.timeouts.requests.connect, Duration::from_secs(5));
    assert_eq!(settings.timeouts.requests.response_header, Duration::from_secs(60));
    assert_eq!(settings.timeouts.requests.idle, Duration::from_secs(120));
    assert_eq!((settings.concurrency.connections, settings.concurrency.tunnels), (None, None));
    assert_eq!(settings.concurrency.connections_per_client, 2048);
    assert_eq!(settings.concurrency.tunnels_per_client, 1024);
    assert_eq!(settings.concurrency.requests_per_client, 1024);
    assert_eq!(settings.concurrency.pending_memory, None);
    let RateSettings { connections, handshakes, requests } = settings.rates;
    let rates =
        [connections, handshakes, requests].map(|rate| (rate.per_second.get(), rate.burst.get()));
    assert_eq!(rates, [(500, 5000), (20, 100), (1000, 5000)]);
    assert_eq!(settings.drain.window, Duration::from_secs(10));
    assert_eq!(settings.drain.deadline, Duration::from_secs(30));
    assert_eq!(settings.admin.unwrap().to_string(), "127.0.0.1:9180");
    assert_eq!(settings.log.format, LogFormat::Text);
    assert!(settings.log.redact.contains(&"access_token".to_owned()));
    assert!(settings.listeners[0].tls);
    assert_eq!(&*settings.listeners[0].name, "0.0.0.0:443");
    assert_eq!(&*route.name, "chat.example.com");
    assert!(route.http);
    assert_eq!(&*route.pool.backends[0].id, "127.0.0.1:9001");
    let CertificateSource::Files { chain, key } = &settings.certificates[0].source else {
        panic!("files");
    };
    assert_eq!(chain.to_str(), Some("/etc/tidegate/fullchain.pem"));
    assert_eq!(key.to_str(), Some("/etc/tidegate/privkey.pem"));
}

#[test]
fn connection_rate_is_at_least_that_of_handshakes() {
    let settings = parse(&format!(
        "{PLAIN}[rates]\nhandshakes_per_client = \"900/s\"\nhandshakes_burst = 7000\n"
    ));
    assert_eq!(settings.rates.connections, settings.rates.handshakes);
}

#[test]
fn route_overrides_top_level_limits_by_key() {
    let settings = parse(&format!(
        "{PLAIN}[route.limits]\nmessage_from_client = \"off\"\nmessage_from_backend = \"2KiB\"\n\
         [route.heartbeat]\ninterval = \"off\"\n\
         [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n\
         [limits]\nidle = \"off\"\nclose_grace = \"1s\"\n[drain]\ncode = 4000\n"
    ));
    let (own, top_level) = (&settings.routes[0].policy, &settings.routes[1].policy);
    assert_eq!(own.from_client.message.map(|cap| cap.max), None);
    assert_eq!(own.from_backend.message.map(|cap| cap.max), Some(2048));
    assert_eq!(own.heartbeat_client, None);
    assert_eq!((own.idle, own.close_grace), (None, Duration::from_secs(1)));
    assert_eq!(top_level.from_client.message.map(|cap| cap.max), Some(16 << 20));
    assert_eq!(top_level.from_backend.message.map(|cap| cap.max), None);
    assert!(top_level.heartbeat_client.is_some());
    assert_eq!((own.drain_code.get(), top_level.drain_code.get()), (4000, 4000));
}

#[test]
fn backends_have_a_short_and_a_long_form() {
    let text = PLAIN.replace(
        "backends = [\"127.0.0.1:9001\"]",
        "backends = [\"a:1\", { address = \"[::1]:2\", weight = 3, id = \"two\" }]",
    );
    let short = parse(&text).routes[0].pool.backends.clone();
    assert_eq!(short[1].address.to_string(), "[::1]:2");
    assert_eq!((short[1].weight.get(), &*short[1].id), (3, "two"));
    let text = PLAIN.replace(
        "backends = [\"127.0.0.1:9001\"]",
        "[[route.backends]]\naddress = \"a:1\"\n[[route.backends]]\naddress = \"[::1]:2\"\n\
         weight = 3\nid = \"two\"",
    );
    assert_eq!(parse(&text).routes[0].pool.backends, short);
}

// Requirements: CF02.
#[test]
fn accepts_byte_order_mark_and_crlf() {
    let text = format!("\u{feff}{}", PLAIN.replace('\n', "\r\n"));
    assert_eq!(parse(&text), parse(PLAIN));
    let text = text.replace("address = \"0.0.0.0:443\"", "adress = \"0.0.0.0:443\"");
    assert_eq!(
        rendered(&text),
        "proxy.toml:2:1: listener[0].adress: unknown key\n \
         2 | adress = \"0.0.0.0:443\"\n   \
           | ^^^^^^\n   \
           help: did you mean \"address\"?\n\nproxy.toml: 1 error"
    );
}

// Requirements: CF02.
#[test]
fn reports_nul_with_its_line() {
    let text = PLAIN.replace("chat.example", "chat\0example");
    assert!(rendered(&text).starts_with("proxy.toml:9:13: route[0].host: "), "{}", rendered(&text));
    // The NUL is not printed.
    assert!(!rendered(&text).contains('\0'));
}

// Requirements: CF03.
#[test]
fn syntax_error_shows_line_column_and_caret() {
    assert_eq!(
        rendered("[[listener]\naddress = \"x\"\n"),
        "proxy.toml:1:12: unclosed array table, expected `]`\n \
         1 | [[listener]\n   \
           |            ^\n\nproxy.toml: 1 error"
    );
    let text = PLAIN.replace("\"chat.example.com\"", "\"chat.example.com");
    assert_eq!(errors(&text), ["route[0].host: the closing quote is missing"]);
    // The rest of the file is not blamed for it.
    for quote in ['"', '\''] {
        for more in ["", "\n", "\n[limits]\nidle = \"1h\"\n"] {
            let text = format!("backends = [{quote}127.0.0.1:9001]{more}");
            let found = rendered(&text);
            assert!(found.starts_with("proxy.toml:1:29: "), "{found}");
            assert!(found.contains("the closing quote is missing\n"), "{found}");
            assert!(found.ends_with("\n\nproxy.toml: 1 error"), "{found}");
        }
    }
    assert_eq!(
        errors("a = [1, 2\n[x]\n"),
        [": missing comma between array elements, expected `,` \
          (separate the values with commas, or close the list above with ])"]
    );
    assert_eq!(
        errors_below("name = \"\\q\\w\"\nzebra = \"\\q\\w\"").len(),
        2,
        "one for each, though the parser has two for each"
    );
    assert_eq!(errors("x$ = 5\n"), [": invalid unquoted key, expected letters, numbers, `-`, `_`"]);
}

// Requirements: CF03.
#[test]
fn unquoted_text_is_read_as_if_quoted() {
    assert_eq!(
        errors_below(
            "tunnels = off\n[limits]\nidle = 30sec\n[rates]\nhandshakes_per_client = 20/s"
        ),
        [
            "route[0].tunnels: text must be in double quotes (write \"off\")",
            "limits.idle: \"sec\" is not a unit of time (write \"30s\")",
            "rates.handshakes_per_client: text must be in double quotes (write \"20/s\")",
        ]
    );
    assert_eq!(
        errors_replacing("\"0.0.0.0:443\"", "0.0.0.0:443\ntls = on"),
        [
            "listener[0].address: text must be in double quotes (write \"0.0.0.0:443\")",
            "listener[0].tls: expected true or false, found \"on\" (write true, without quotes)",
        ]
    );
    assert_eq!(errors_below("name ="), ["route[0].name: the value is missing"]);
}

// Requirements: CF05.
#[test]
fn number_without_unit_suggests_the_unit() {
    assert_eq!(
        errors_below(
            "[limits]\nidle = 3600\nmessage_from_client = 65536\nclose_grace = \"5\"\n\
             [rates]\nhandshakes_per_client = 20"
        ),
        [
            "limits.idle: 3600 has no unit (write \"3600s\" if you mean seconds)",
            "limits.message_from_client: 65536 has no unit (write \"64KiB\" if you mean bytes)",
            "limits.close_grace: \"5\" has no unit (write \"5s\" for seconds)",
            "rates.handshakes_per_client: 20 has no unit (write \"20/s\" if you mean per second)",
        ]
    );
}

// Requirements: CF05.
#[test]
fn rejects_wrong_types_negative_and_overlarge_numbers() {
    assert_eq!(
        errors_below(
            "http = 1\ntunnels = \"ten\"\ncompression = \"striped\"\n[timeouts]\ntls = -5\n\
             connect = 1e9\nrequest_header = true\nresponse_header = [\"1s\"]\n\
             [concurrency]\nconnections = 5000000000\n\
             tunnels = 99999999999999999999999999\n[rates]\nhandshakes_burst = \"100\"\n[log]\nredact = \"x\"\n\
             level = \"warning\""
        ),
        [
            "route[0].http: expected true or false, found the number 1 \
             (write true or false, without quotes)",
            "route[0].tunnels: expected a whole number, found \"ten\" \
             (write a number without quotes, or \"off\")",
            "route[0].compression: expected \"inspect\", \"strip\" or \"pass\", found \"striped\" \
             (did you mean \"strip\"?)",
            "timeouts.tls: -5 is negative; a positive number is required",
            "timeouts.connect: expected a duration, found the number 1e9 (write one such as \"30s\")",
            "timeouts.request_header: expected a duration, found true (write one such as \"30s\")",
            "timeouts.response_header: expected a duration, found a list (write one such as \"30s\")",
            "concurrency.connections: 5000000000 is too large (the maximum is 4294967295)",
            "concurrency.tunnels: 99999999999999999999999999 is too large \
             (the maximum is 4294967295)",
            "rates.handshakes_burst: expected a whole number, found \"100\" \
             (write 100, without quotes)",
            "log.redact: expected a list, found \"x\" (write [\"x\"])",
            "log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", \
             found \"warning\" (did you mean \"warn\"?)",
        ]
    );
}

// Requirements: CF05.
#[test]
fn distinguishes_single_and_double_brackets() {
    assert_eq!(
        errors(&PLAIN.replace("[[listener]]", "[listener]")),
        ["listener: a list of tables needs double brackets (write [[listener]])"]
    );
    assert_eq!(
        errors_below("[[limits]]\nidel = \"1s\""),
        [
            "limits: expected a table, found a list (write [limits], once)",
            "limits.idel: unknown key (did you mean \"idle\"?)",
        ]
    );
    assert_eq!(
        errors("route = 5\nlistener = [1]"),
        [
            "route: expected a table, found the number 5 (write [[route]])",
            "listener[0]: expected a table, found the number 1 (write [[listener]])",
        ]
    );
}

// Requirements: CF06.
#[test]
fn zero_never_means_unlimited() {
    assert_eq!(
        errors_below(
            "tunnels = 0\n[limits]\nmessage_from_client = 0\nmessage_from_backend = \"0B\"\n\
             idle = \"0s\"\nclose_grace = 0\n[heartbeat]\ninterval = 0\n[concurrency]\nconnections = 0\n\
             tunnels_per_client = 0\n[rates]\nhandshakes_per_client = \"0/s\""
        ),
        [
            "route[0].tunnels: 0 would allow none (write \"off\" for no limit)",
            "limits.message_from_client: a size of 0 would allow nothing \
             (write \"off\" for no limit)",
            "limits.message_from_backend: a size of 0 would allow nothing \
             (write \"off\" for no limit)",
            "limits.idle: a duration of 0 would expire immediately \
             (write \"off\" for no limit)",
            "limits.close_grace: a duration of 0 would expire immediately \
             (the minimum is \"1ms\")",
            "heartbeat.interval: a duration of 0 would expire immediately \
             (write \"off\" for no limit)",
            "concurrency.connections: 0 would allow none (write \"auto\" to let tidegate choose)",
            "concurrency.tunnels_per_client: 0 would allow none (the minimum is 1)",
            "rates.handshakes_per_client: a rate of 0 would allow nothing (the minimum is \"1/s\")",
        ]
    );
    assert_eq!(
        errors_below("[server]\nworkers = 0"),
        ["server.workers: at least one worker thread is needed \
          (write \"auto\" to let tidegate choose)"]
    );
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", "{ address = \"127.0.0.1:9001\", weight = 0 }"),
        ["route[0].backends[0].weight: a backend with the weight 0 would receive no tunnels \
          (remove the backend, or write at least 1)"]
    );
}

// Requirements: CF06.
#[test]
fn off_is_accepted_only_where_optional() {
    let settings = parse(&format!(
        "{PLAIN}tunnels = \"off\"\n[limits]\nmessage_from_client = \"off\"\n\
         message_from_backend = \"off\"\nidle = \"off\"\n[heartbeat]\ninterval = \"off\"\n"
    ));
    let policy = &settings.routes[0].policy;
    assert_eq!(
        (policy.from_client.message.map(|cap| cap.max), policy.idle, policy.heartbeat_client),
        (None, None, None)
    );
    assert_eq!(
        errors_below("[limits]\nclose_grace = \"off\"\nidle = false"),
        [
            "limits.close_grace: \"off\" is not a duration \
             (write one whole number and one unit, as in \"30s\")",
            "limits.idle: expected a limit, found false (write \"off\" to turn it off)",
        ]
    );
}

// Requirements: CF07.
#[test]
fn duplicates_are_reported_along_with_other_errors() {
    assert_eq!(
        errors_below("[limits]\nidle = \"1h\"\nidle = \"2h\"\n[drain]\nzebra = 1\n[limits]\n"),
        [
            ": \"idle\" is defined twice \
             (a key may appear once in its table, and a table has one header)",
            "drain.zebra: unknown key (the keys here are delay, window, rate, deadline, code, reason)",
            ": \"limits\" is defined twice \
             (a key may appear once in its table, and a table has one header)",
        ]
    );
}

// Requirements: CF08.
#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let dotted = vec!["a"; 79].join(".");
    let texts = [
        "a = ".to_owned() + &"[".repeat(10_000),
        "a = ".to_owned() + &"{a=".repeat(10_000),
        "a.".repeat(10_000) + "a = 1",
        format!("[{}]", "a.".repeat(10_000) + "a"),
        "[".repeat(10_000) + "a" + &"]".repeat(10_000),
        // Within the parser's limits for brackets and dots, but thousands of levels deep.
        format!("{dotted}={{").repeat(70) + &format!("{dotted}=1") + &"}".repeat(70),
    ];
    for text in texts {
        let errors = errors(&text);
        assert_eq!(
            errors,
            [": the file is nested deeper than 16 levels, the maximum for a configuration file"]
        );
    }
}

// Requirements: CF08.
#[test]
fn rejects_oversized_files() {
    let text = format!("{PLAIN}{}", "#".repeat(4 << 20));
    assert_eq!(
        rendered(&text),
        "proxy.toml: the file is larger than 4 MiB, the maximum for a configuration file\n\n\
         proxy.toml: 1 error"
    );
}

// Requirements: CF08.
#[test]
fn many_routes_and_errors_are_read_quickly() {
    use std::fmt::Write;

    let mut text = "[[listener]]\naddress = \"0.0.0.0:80\"\ntls = false\n".to_owned();
    for host in 0..20_000 {
        write!(
            text,
            "[[route]]\nhost = \"h{host}.example\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n"
        )
        .unwrap();
    }
    assert_eq!(parse(&text).routes.len(), 20_000);
    let diagnostics = Settings::parse(&text.replace("host =", "hots ="), "proxy.toml").unwrap_err();
    assert_eq!(diagnostics.iter().count(), 100);
    assert_eq!(diagnostics.count(), 10_000);
    assert!(
        diagnostics
            .to_string()
            .ends_with("proxy.toml: 10000 errors, the first 100 are listed above")
    );
    let rubbish = "}\n".repeat(1 << 20);
    assert_eq!(errors(&rubbish), [": invalid key-value pair, expected key"]);
}
