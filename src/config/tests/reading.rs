//! How a file is read, and what is told of it.

use super::*;
use crate::config::schema::known_keys;
use crate::config::settings::Settings;

#[test]
fn a_plain_configuration_is_protected() {
    let settings = Settings::parse(PLAIN, "/etc/tidegate/proxy.toml").unwrap();
    let route = &settings.routes[0];
    let terms = &route.terms;
    assert_eq!(terms.from_client.message.map(|cap| cap.max), Some(1 << 20));
    assert_eq!(terms.from_backend.message.map(|cap| cap.max), None);
    let heartbeat = terms.heartbeat_client.unwrap();
    assert_eq!(heartbeat.interval, Duration::from_secs(30));
    assert_eq!(heartbeat.timeout, Duration::from_secs(10));
    assert_eq!(terms.idle, Some(Duration::from_secs(3600)));
    assert_eq!(terms.close_grace, Duration::from_secs(5));
    assert_eq!(terms.write_timeout, Duration::from_secs(30));
    assert_eq!(terms.drain_code, CloseCode::SERVICE_RESTART);
    assert_eq!(settings.timeouts.tls, Duration::from_secs(10));
    assert_eq!(settings.timeouts.request_header, Duration::from_secs(10));
    assert_eq!(settings.timeouts.connect, Duration::from_secs(5));
    assert_eq!(settings.timeouts.response_header, Duration::from_secs(10));
    assert_eq!(settings.timeouts.idle, Duration::from_secs(120));
    assert_eq!((settings.concurrency.connections, settings.concurrency.tunnels), (None, None));
    assert_eq!(settings.concurrency.connections_per_client, 512);
    assert_eq!(settings.concurrency.tunnels_per_client, 256);
    assert_eq!(settings.rates.handshakes_per_client.get(), 20);
    assert_eq!(settings.rates.handshakes_burst.get(), 100);
    assert_eq!(settings.drain.window, Duration::from_secs(10));
    assert_eq!(settings.drain.deadline, Duration::from_secs(30));
    assert_eq!(settings.admin.unwrap().to_string(), "127.0.0.1:9180");
    assert_eq!(settings.log.format, LogFormat::Text);
    assert!(settings.log.redact.contains(&"access_token".to_owned()));
    assert!(settings.listeners[0].tls);
    assert_eq!(&*settings.listeners[0].name, "0.0.0.0:443");
    assert_eq!(&*route.name, "chat.example.com");
    assert!(route.http);
    assert_eq!(&*route.backends[0].id, "127.0.0.1:9001");
    let CertificateSource::Files { chain, key } = &settings.certificates[0].source else {
        panic!("files");
    };
    assert_eq!(chain.to_str(), Some("/etc/tidegate/fullchain.pem"));
    assert_eq!(key.to_str(), Some("/etc/tidegate/privkey.pem"));
}

#[test]
fn a_route_overrides_the_common_limits_key_by_key() {
    let settings = parse(&format!(
        "{PLAIN}[route.limits]\nmessage_from_client = \"off\"\nmessage_from_backend = \"2KiB\"\n\
         [route.heartbeat]\ninterval = \"off\"\n\
         [[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]\n\
         [limits]\nidle = \"off\"\nclose_grace = \"1s\"\n[drain]\ncode = 4000\n"
    ));
    let (own, common) = (&settings.routes[0].terms, &settings.routes[1].terms);
    assert_eq!(own.from_client.message.map(|cap| cap.max), None);
    assert_eq!(own.from_backend.message.map(|cap| cap.max), Some(2048));
    assert_eq!(own.heartbeat_client, None);
    assert_eq!((own.idle, own.close_grace), (None, Duration::from_secs(1)));
    assert_eq!(common.from_client.message.map(|cap| cap.max), Some(1 << 20));
    assert_eq!(common.from_backend.message.map(|cap| cap.max), None);
    assert!(common.heartbeat_client.is_some());
    assert_eq!((own.drain_code.get(), common.drain_code.get()), (4000, 4000));
}

#[test]
fn backends_may_be_written_short_or_long() {
    let text = PLAIN.replace(
        "backends = [\"127.0.0.1:9001\"]",
        "backends = [\"a:1\", { address = \"[::1]:2\", weight = 3, id = \"two\" }]",
    );
    let short = parse(&text).routes[0].backends.clone();
    assert_eq!(short[1].address.to_string(), "[::1]:2");
    assert_eq!((short[1].weight.get(), &*short[1].id), (3, "two"));
    let text = PLAIN.replace(
        "backends = [\"127.0.0.1:9001\"]",
        "[[route.backends]]\naddress = \"a:1\"\n[[route.backends]]\naddress = \"[::1]:2\"\n\
         weight = 3\nid = \"two\"",
    );
    assert_eq!(parse(&text).routes[0].backends, short);
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
           help: did you mean \"address\"?\n\nproxy.toml: 1 fault"
    );
}

// Requirements: CF02.
#[test]
fn reports_nul_with_its_line() {
    let text = PLAIN.replace("chat.example", "chat\0example");
    assert!(rendered(&text).starts_with("proxy.toml:9:13: route[0].host: "), "{}", rendered(&text));
    // And it does not reach the terminal.
    assert!(!rendered(&text).contains('\0'));
}

// Requirements: CF03.
#[test]
fn syntax_error_shows_line_column_and_caret() {
    assert_eq!(
        rendered("[[listener]\naddress = \"x\"\n"),
        "proxy.toml:1:12: unclosed array table, expected `]`\n \
         1 | [[listener]\n   \
           |            ^\n\nproxy.toml: 1 fault"
    );
    let text = PLAIN.replace("\"chat.example.com\"", "\"chat.example.com");
    assert_eq!(told(&text), ["route[0].host: the text has no closing quote"]);
    assert_eq!(
        told("a = [1, 2\n[x]\n"),
        [": missing comma between array elements, expected `,` \
          (or is the list above it not closed with ]?)"]
    );
    assert_eq!(
        told_below("name = \"\\q\\w\"\nzebra = \"\\q\\w\"").len(),
        2,
        "one for each, though the parser has two for each"
    );
    assert_eq!(told("x: 5\n"), [": invalid unquoted key, expected letters, numbers, `-`, `_`"]);
}

// Requirements: CF03.
#[test]
fn unquoted_text_is_read_as_if_quoted() {
    assert_eq!(
        told_below("tunnels = off\n[limits]\nidle = 30sec\n[rates]\nhandshakes_per_client = 20/s"),
        [
            "route[0].tunnels: text stands in double quotes (write \"off\")",
            "limits.idle: \"sec\" is not a unit of time (write \"30s\")",
            "rates.handshakes_per_client: text stands in double quotes (write \"20/s\")",
        ]
    );
    assert_eq!(
        told_instead("\"0.0.0.0:443\"", "0.0.0.0:443\ntls = on"),
        [
            "listener[0].address: text stands in double quotes (write \"0.0.0.0:443\")",
            "listener[0].tls: expected true or false, found \"on\" (write true, without quotes)",
        ]
    );
    assert_eq!(told_below("name ="), ["route[0].name: the value is missing"]);
}

// Requirements: CF04.
#[test]
fn unknown_key_suggests_the_nearest_one() {
    assert_eq!(
        rendered(&format!("{PLAIN}\n[limits]\nidel = \"3h\"\n")),
        "proxy.toml:14:1: limits.idel: unknown key\n \
         14 | idel = \"3h\"\n    \
            | ^^^^\n    \
            help: did you mean \"idle\"?\n\nproxy.toml: 1 fault"
    );
    assert_eq!(
        told_below("[limit]\n[heartbeats]\n[limits]\nclose-grace = \"1s\"\n[drain]\nzebra = 1"),
        [
            "limit: unknown table (did you mean \"limits\"?)",
            "heartbeats: unknown table (did you mean \"heartbeat\"?)",
            "limits.close-grace: unknown key (did you mean \"close_grace\"?)",
            "drain.zebra: unknown key (the keys here are delay, window, rate, deadline, code, reason)",
        ]
    );
}

// Requirements: CF04.
#[test]
fn long_list_of_keys_is_wrapped() {
    let faults =
        Settings::parse(&format!("{PLAIN}[limits]\nzebra = 1\n"), "proxy.toml").unwrap_err();
    let help = faults.iter().next().unwrap().help().unwrap();
    assert!(help.lines().count() > 1 && help.lines().all(|line| line.len() <= 90), "{help}");
    for key in known_keys().iter().filter_map(|key| key.strip_prefix("limits.")) {
        assert!(help.contains(key), "{key} is not in {help}");
    }
    let line = faults.lines().next().unwrap();
    assert!(!line.contains('\n') && !line.contains(';'), "{line}");
}

// Requirements: CF04.
#[test]
fn misplaced_key_names_the_right_table() {
    assert_eq!(
        told_below("idle = \"5s\"\ntls = false\n[route.drain]\n"),
        [
            "route[0].idle: unknown key (\"idle\" belongs in [limits] or in [route.limits] \
             or in [timeouts])",
            "route[0].tls: unknown key (\"tls\" belongs in [[listener]] or in [timeouts])",
            "route[0].drain: unknown table (\"drain\" belongs at the top level)",
        ]
    );
}

// Requirements: CF04.
#[test]
fn misspelt_key_is_not_also_reported_missing() {
    assert_eq!(
        told_instead("origins", "origin"),
        ["route[0].origin: unknown key (did you mean \"origins\"?)"]
    );
}

// Requirements: CF05.
#[test]
fn number_without_unit_suggests_the_unit() {
    assert_eq!(
        told_below(
            "[limits]\nidle = 3600\nmessage_from_client = 65536\nclose_grace = \"5\"\n\
             [rates]\nhandshakes_per_client = 20"
        ),
        [
            "limits.idle: 3600 has no unit (write \"3600s\" if it is seconds)",
            "limits.message_from_client: 65536 has no unit (write \"64KiB\" if it is bytes)",
            "limits.close_grace: \"5\" has no unit (write \"5s\" for seconds)",
            "rates.handshakes_per_client: 20 has no unit (write \"20/s\" if it is per second)",
        ]
    );
}

// Requirements: CF05.
#[test]
fn rejects_wrong_types_negative_and_overlarge_numbers() {
    assert_eq!(
        told_below(
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
            "concurrency.connections: 5000000000 is too large (the most is 4294967295)",
            "concurrency.tunnels: 99999999999999999999999999 is too large \
             (write a number without quotes, or \"auto\")",
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
        told(&PLAIN.replace("[[listener]]", "[listener]")),
        [
            "listener: there may be several of these, so the brackets are double (write [[listener]])"
        ]
    );
    assert_eq!(
        told_below("[[limits]]\nidel = \"1s\""),
        [
            "limits: expected a table, found a list (write [limits], once)",
            "limits.idel: unknown key (did you mean \"idle\"?)",
        ]
    );
    assert_eq!(
        told("route = 5\nlistener = [1]"),
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
        told_below(
            "tunnels = 0\n[limits]\nmessage_from_client = 0\nmessage_from_backend = \"0B\"\n\
             idle = \"0s\"\nclose_grace = 0\n[heartbeat]\ninterval = 0\n[concurrency]\nconnections = 0\n\
             tunnels_per_client = 0\n[rates]\nhandshakes_per_client = \"0/s\""
        ),
        [
            "route[0].tunnels: 0 would mean none at all (write \"off\" if there is to be no limit)",
            "limits.message_from_client: a size of 0 would let nothing through \
             (write \"off\" if there is to be no limit)",
            "limits.message_from_backend: a size of 0 would let nothing through \
             (write \"off\" if there is to be no limit)",
            "limits.idle: a time of 0 would be over before it began \
             (write \"off\" if there is to be no limit)",
            "limits.close_grace: a time of 0 would be over before it began \
             (the shortest time is \"1ms\")",
            "heartbeat.interval: a time of 0 would be over before it began \
             (write \"off\" if there is to be no limit)",
            "concurrency.connections: 0 would mean none at all (write \"auto\" to let tidegate choose)",
            "concurrency.tunnels_per_client: 0 would mean none at all (the least is 1)",
            "rates.handshakes_per_client: a rate of 0 would let nothing through (the lowest rate is \"1/s\")",
        ]
    );
}

// Requirements: CF06.
#[test]
fn off_is_accepted_only_where_optional() {
    let settings = parse(&format!(
        "{PLAIN}tunnels = \"off\"\n[limits]\nmessage_from_client = \"off\"\n\
         message_from_backend = \"off\"\nidle = \"off\"\n[heartbeat]\ninterval = \"off\"\n"
    ));
    let terms = &settings.routes[0].terms;
    assert_eq!(
        (terms.from_client.message.map(|cap| cap.max), terms.idle, terms.heartbeat_client),
        (None, None, None)
    );
    assert_eq!(
        told_below("[limits]\nclose_grace = \"off\"\nidle = false"),
        [
            "limits.close_grace: \"off\" is not a duration \
             (write one whole number and one unit, as in \"30s\")",
            "limits.idle: expected a limit, found false (write \"off\" if there is to be none)",
        ]
    );
}

// Requirements: CF07.
#[test]
fn duplicates_are_reported_along_with_other_errors() {
    assert_eq!(
        told_below("[limits]\nidle = \"1h\"\nidle = \"2h\"\n[drain]\nzebra = 1\n[limits]\n"),
        [
            ": \"idle\" is here for the second time \
             (a key stands once in its table, and a table has one header)",
            "drain.zebra: unknown key (the keys here are delay, window, rate, deadline, code, reason)",
            ": \"limits\" is here for the second time \
             (a key stands once in its table, and a table has one header)",
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
        // Neither too many brackets nor too many dots for the parser, but thousands of levels.
        format!("{dotted}={{").repeat(70) + &format!("{dotted}=1") + &"}".repeat(70),
    ];
    for text in texts {
        let told = told(&text);
        assert_eq!(told, [": this is nested deeper than 16 levels"]);
    }
}

// Requirements: CF08.
#[test]
fn rejects_oversized_files() {
    let text = format!("{PLAIN}{}", "#".repeat(4 << 20));
    assert_eq!(rendered(&text), "proxy.toml: this is larger than 4MiB\n\nproxy.toml: 1 fault");
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
    let faults = Settings::parse(&text.replace("host =", "hots ="), "proxy.toml").unwrap_err();
    assert_eq!(faults.iter().count(), 100);
    assert_eq!(faults.count(), 10_000);
    assert!(faults.to_string().ends_with("proxy.toml: 10000 faults, the first 100 of them above"));
    let rubbish = "}\n".repeat(1 << 20);
    assert_eq!(told(&rubbish), [": invalid key-value pair, expected key"]);
}
