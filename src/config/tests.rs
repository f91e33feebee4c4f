//! The room as a whole, from text to settings or rendered faults; rows of `requirements.md` 7.CF.

use std::time::Duration;

use proptest::prelude::*;

use super::settings::{CertificateSource, LogFormat};
use super::*;
use crate::ws::CloseCode;

/// One certificate, one route and one backend.
const PLAIN: &str = r#"[[listener]]
address = "0.0.0.0:443"

[[certificate]]
chain = "fullchain.pem"
key = "privkey.pem"

[[route]]
host = "chat.example.com"
origins = ["same-origin"]
backends = ["127.0.0.1:9001"]
"#;

fn parse(text: &str) -> Settings {
    Settings::parse(text, "proxy.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn rendered(text: &str) -> String {
    Settings::parse(text, "proxy.toml").expect_err("faults").to_string()
}

/// `key: problem (help)` of each fault, in the order of the file; help in one line.
fn told(text: &str) -> Vec<String> {
    let faults = Settings::parse(text, "proxy.toml").expect_err("faults");
    let help = |fault: &Fault| fault.help().map(|help| format!(" ({help})")).unwrap_or_default();
    faults
        .iter()
        .map(|fault| format!("{}: {}{}", fault.key(), fault.problem(), help(fault)))
        .collect()
}

/// What is told of these lines below the plain configuration, whose last table is the route.
fn told_below(lines: &str) -> Vec<String> {
    told(&format!("{PLAIN}{lines}\n"))
}

/// What is told when one line of the plain configuration is another.
fn told_instead(old: &str, new: &str) -> Vec<String> {
    assert!(PLAIN.contains(old), "{old}");
    told(&PLAIN.replace(old, new))
}

#[test]
fn a_plain_configuration_is_protected() {
    let settings = Settings::parse(PLAIN, "/etc/tidegate/proxy.toml").unwrap();
    let route = &settings.routes[0];
    let terms = &route.terms;
    assert_eq!(terms.message_from_client_max, Some(1 << 20));
    assert_eq!(terms.message_from_backend_max, None);
    let heartbeat = terms.heartbeat.unwrap();
    assert_eq!(heartbeat.interval, Duration::from_secs(30));
    assert_eq!(heartbeat.patience, Duration::from_secs(10));
    assert_eq!(terms.idle, Some(Duration::from_secs(3600)));
    assert_eq!(terms.close_grace, Duration::from_secs(5));
    assert_eq!(terms.write_stall, Duration::from_secs(30));
    assert_eq!(terms.drain_code, CloseCode::SERVICE_RESTART);
    assert_eq!(settings.timeouts.tls, Duration::from_secs(10));
    assert_eq!(settings.timeouts.head, Duration::from_secs(10));
    assert_eq!(settings.timeouts.dial, Duration::from_secs(5));
    assert_eq!(settings.timeouts.backend_answer, Duration::from_secs(10));
    assert_eq!(settings.timeouts.http_silence, Duration::from_secs(120));
    assert_eq!((settings.caps.connections, settings.caps.tunnels), (None, None));
    assert_eq!(settings.caps.connections_per_client, 512);
    assert_eq!(settings.caps.tunnels_per_client, 256);
    assert_eq!(settings.caps.handshakes_per_client.get(), 20);
    assert_eq!(settings.caps.handshakes_burst.get(), 100);
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
    assert_eq!(own.message_from_client_max, None);
    assert_eq!(own.message_from_backend_max, Some(2048));
    assert_eq!(own.heartbeat, None);
    assert_eq!((own.idle, own.close_grace), (None, Duration::from_secs(1)));
    assert_eq!(common.message_from_client_max, Some(1 << 20));
    assert_eq!(common.message_from_backend_max, None);
    assert!(common.heartbeat.is_some());
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

#[test]
fn cf02_a_byte_order_mark_and_crlf_are_accepted() {
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

#[test]
fn cf02_nul_is_a_fault_with_its_line() {
    let text = PLAIN.replace("chat.example", "chat\0example");
    assert!(rendered(&text).starts_with("proxy.toml:9:13: route[0].host: "), "{}", rendered(&text));
    // And it does not reach the terminal.
    assert!(!rendered(&text).contains('\0'));
}

#[test]
fn cf03_a_syntax_error_has_line_column_and_caret() {
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

#[test]
fn cf03_text_without_quotes_is_read_as_if_it_had_them() {
    assert_eq!(
        told_below("tunnels = off\n[limits]\nidle = 30sec\n[caps]\nhandshakes_per_client = 20/s"),
        [
            "route[0].tunnels: text stands in double quotes (write \"off\")",
            "limits.idle: \"sec\" is not a unit of time (write \"30s\")",
            "caps.handshakes_per_client: text stands in double quotes (write \"20/s\")",
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

#[test]
fn cf04_an_unknown_key_is_told_with_the_nearest_one() {
    assert_eq!(
        rendered(&format!("{PLAIN}\n[limits]\nidel = \"3h\"\n")),
        "proxy.toml:14:1: limits.idel: unknown key\n \
         14 | idel = \"3h\"\n    \
            | ^^^^\n    \
            help: did you mean \"idle\"?\n\nproxy.toml: 1 fault"
    );
    assert_eq!(
        told_below("[limit]\n[heartbeats]\n[limits]\nclose-grace = \"1s\"\nzebra = 1"),
        [
            "limit: unknown table (did you mean \"limits\"?)",
            "heartbeats: unknown table (did you mean \"heartbeat\"?)",
            "limits.close-grace: unknown key (did you mean \"close_grace\"?)",
            "limits.zebra: unknown key (the keys here are message_from_client, \
             message_from_backend, idle, close_grace, write_stall)",
        ]
    );
}

#[test]
fn cf04_a_key_in_the_wrong_table_is_told_where_it_belongs() {
    assert_eq!(
        told_below("idle = \"5s\"\ntls = false\n[route.drain]\n"),
        [
            "route[0].idle: unknown key (\"idle\" belongs in [limits] or in [route.limits])",
            "route[0].tls: unknown key (\"tls\" belongs in [[listener]] or in [timeouts])",
            "route[0].drain: unknown table (\"drain\" belongs at the top level)",
        ]
    );
}

#[test]
fn cf04_a_misspelt_key_is_not_missing_as_well() {
    assert_eq!(
        told_instead("origins", "origin"),
        ["route[0].origin: unknown key (did you mean \"origins\"?)"]
    );
}

#[test]
fn cf05_a_number_without_a_unit_is_told_the_unit() {
    assert_eq!(
        told_below(
            "[limits]\nidle = 3600\nmessage_from_client = 65536\nclose_grace = \"5\"\n\
             [caps]\nhandshakes_per_client = 20"
        ),
        [
            "limits.idle: 3600 has no unit (write \"3600s\" if it is seconds)",
            "limits.message_from_client: 65536 has no unit (write \"64KiB\" if it is bytes)",
            "limits.close_grace: \"5\" has no unit (write \"5s\" for seconds)",
            "caps.handshakes_per_client: 20 has no unit (write \"20/s\" if it is per second)",
        ]
    );
}

#[test]
fn cf05_wrong_types_negative_and_overlarge_numbers() {
    assert_eq!(
        told_below(
            "http = 1\ntunnels = \"ten\"\ncompression = \"striped\"\n[timeouts]\ntls = -5\n\
             dial = 1e9\nhead = true\nbackend_answer = [\"1s\"]\n[caps]\nconnections = 5000000000\n\
             tunnels = 99999999999999999999999999\nhandshakes_burst = \"100\"\n[log]\nredact = \"x\"\n\
             level = \"warning\""
        ),
        [
            "route[0].http: expected true or false, found the number 1 \
             (write true or false, without quotes)",
            "route[0].tunnels: expected a whole number, found \"ten\" \
             (write a number without quotes, or \"off\")",
            "route[0].compression: expected \"strip\" or \"pass\", found \"striped\" \
             (did you mean \"strip\"?)",
            "timeouts.tls: -5 is less than nothing",
            "timeouts.dial: expected a duration, found the number 1e9 (write one such as \"30s\")",
            "timeouts.head: expected a duration, found true (write one such as \"30s\")",
            "timeouts.backend_answer: expected a duration, found a list (write one such as \"30s\")",
            "caps.connections: 5000000000 is too large (the most is 4294967295)",
            "caps.tunnels: 99999999999999999999999999 is too large \
             (write a number without quotes, or \"auto\")",
            "caps.handshakes_burst: expected a whole number, found \"100\" \
             (write 100, without quotes)",
            "log.redact: expected a list, found \"x\" (write [\"x\"])",
            "log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", \
             found \"warning\" (did you mean \"warn\"?)",
        ]
    );
}

#[test]
fn cf05_single_and_double_brackets_are_told_apart() {
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

#[test]
fn cf06_zero_is_never_unlimited() {
    assert_eq!(
        told_below(
            "tunnels = 0\n[limits]\nmessage_from_client = 0\nmessage_from_backend = \"0B\"\n\
             idle = \"0s\"\nclose_grace = 0\n[heartbeat]\ninterval = 0\n[caps]\nconnections = 0\n\
             tunnels_per_client = 0\nhandshakes_per_client = \"0/s\""
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
            "caps.connections: 0 would mean none at all (write \"auto\" to let tidegate choose)",
            "caps.tunnels_per_client: 0 would mean none at all (the least is 1)",
            "caps.handshakes_per_client: a rate of 0 would let nobody in (the lowest rate is \"1/s\")",
        ]
    );
}

#[test]
fn cf06_off_is_for_what_may_be_off() {
    let settings = parse(&format!(
        "{PLAIN}tunnels = \"off\"\n[limits]\nmessage_from_client = \"off\"\n\
         message_from_backend = \"off\"\nidle = \"off\"\n[heartbeat]\ninterval = \"off\"\n"
    ));
    let terms = &settings.routes[0].terms;
    assert_eq!((terms.message_from_client_max, terms.idle, terms.heartbeat), (None, None, None));
    assert_eq!(
        told_below("[limits]\nclose_grace = \"off\"\nidle = false"),
        [
            "limits.close_grace: \"off\" is not a duration \
             (write one whole number and one unit, as in \"30s\")",
            "limits.idle: expected a limit, found false (write \"off\" if there is to be none)",
        ]
    );
}

#[test]
fn cf07_what_is_there_twice_is_told_beside_all_else() {
    assert_eq!(
        told_below("[limits]\nidle = \"1h\"\nidle = \"2h\"\nzebra = 1\n[drain]\n[limits]\n"),
        [
            ": \"idle\" is here for the second time \
             (a key stands once in its table, and a table has one header)",
            "limits.zebra: unknown key (the keys here are message_from_client, \
             message_from_backend, idle, close_grace, write_stall)",
            ": \"limits\" is here for the second time \
             (a key stands once in its table, and a table has one header)",
        ]
    );
}

#[test]
fn cf08_depth_does_not_overflow_the_stack() {
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

#[test]
fn cf08_size_is_bounded() {
    let text = format!("{PLAIN}{}", "#".repeat(4 << 20));
    assert_eq!(rendered(&text), "proxy.toml: this is larger than 4MiB\n\nproxy.toml: 1 fault");
}

#[test]
fn cf08_many_routes_and_many_faults_take_no_time() {
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

#[test]
fn cf09_two_listeners_on_one_address() {
    let second = |address: &str| told_below(&format!("[[listener]]\naddress = \"{address}\""));
    assert_eq!(
        second("0.0.0.0:443"),
        ["listener[1].address: 0.0.0.0:443 is taken by listener[0].address \
          (give each listener its own address)"]
    );
    assert_eq!(
        second("127.0.0.1:443"),
        ["listener[1].address: 127.0.0.1:443 is taken by listener[0].address \
          (0.0.0.0:443 already means every address of this machine)"]
    );
    assert_eq!(
        second("127.0.0.1:9180"),
        ["listener[1].address: the admin listener is on 127.0.0.1:9180 by default \
          (choose another port, or set admin.address)"]
    );
    assert_eq!(
        told_below("[admin]\naddress = \"127.0.0.1:443\""),
        ["admin.address: 127.0.0.1:443 is taken by listener[0].address \
          (0.0.0.0:443 already means every address of this machine)"]
    );
    // Sockets for IPv6 take IPv6 only, and port 0 is a different one each time.
    let settings = parse(&format!(
        "{PLAIN}[[listener]]\naddress = \"[::]:443\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n"
    ));
    let names: Vec<&str> = settings.listeners.iter().map(|listener| &*listener.name).collect();
    assert_eq!(names, ["0.0.0.0:443", "[::]:443", "127.0.0.1:0", "127.0.0.1:0#2"]);
}

#[test]
fn a_listener_has_an_ip_address_and_a_port() {
    let told = |address: &str| told_instead("\"0.0.0.0:443\"", address).join("\n");
    let both = "(write \"0.0.0.0:8443\", or \"[::]:8443\" for IPv6)";
    for (address, problem) in [
        ("8443", "8443 has no IP address"),
        ("\":8443\"", "\":8443\" has no IP address"),
        ("\"*:8443\"", "\"*:8443\" has no IP address"),
    ] {
        assert_eq!(told(address), format!("listener[0].address: {problem} {both}"));
    }
    for (address, expected) in [
        ("\"::\"", "\"::\" has no port (write \"[::]:443\" if the port is 443)"),
        (
            "\"localhost:80\"",
            "\"localhost:80\" is a name, not an IP address \
          (write \"127.0.0.1:80\", or \"[::1]:80\" for IPv6)",
        ),
        (
            "\"[::ffff:192.0.2.1]:80\"",
            "\"[::ffff:192.0.2.1]:80\" is an IPv4 address in IPv6 \
          clothing (write \"192.0.2.1:80\")",
        ),
        (
            "\"chat.example.com:443\"",
            "\"chat.example.com:443\" is not an IP address with a port \
          (write an IP address and a port: \"0.0.0.0:443\", or \"[::]:443\" for IPv6)",
        ),
        ("\"0.0.0.0:443\"\nhealth_path = \"ok\"", "\"ok\" does not start with / (write \"/ok\")"),
    ] {
        let told = told(address);
        let (_, told) = told.split_once(": ").unwrap();
        assert_eq!(told, expected);
    }
}

#[test]
fn cf09_listener_names_are_given_once() {
    assert_eq!(
        told_below(
            "[[listener]]\naddress = \"[::]:443\"\nname = \"in\"\n\
             [[listener]]\naddress = \"[::]:444\"\nname = \"in\""
        ),
        ["listener[2].name: \"in\" is listener[1] already (give each listener its own name)"]
    );
}

#[test]
fn cf10_a_route_twice() {
    let second = |lines: &str| {
        told_below(&format!("[[route]]\norigins = [\"*\"]\nbackends = [\"b:1\"]\n{lines}"))
    };
    assert_eq!(
        second("host = \"CHAT.example.com.\"\npath = \"/\""),
        ["route[1].path: host \"chat.example.com\" and path \"/\" are served by route[0] already \
          (give one of them another path, or list all backends in one)"]
    );
    assert_eq!(
        second("host = \"*\"\nname = \"chat.example.com\""),
        ["route[1].name: \"chat.example.com\" is route[0] already (give each route its own name)"]
    );
    // The route table has an order for these.
    parse(&format!(
        "{PLAIN}[[route]]\norigins = [\"*\"]\nbackends = [\"b:1\"]\nhost = \"*.example.com\"\n"
    ));
}

#[test]
fn cf11_a_backend_is_a_host_and_a_port() {
    let backends = |list: &str| told_instead("\"127.0.0.1:9001\"", list);
    assert_eq!(
        backends(
            "\"http://app:9001/ws\", \"user:pass@app:9001\", \"wss://app\", \"app\", \"::1\", 9001, \
             \"unix:/run/app\", \"app:0\""
        ),
        [
            "route[0].backends[0]: a backend is a host and a port, nothing else (write \"app:9001\")",
            "route[0].backends[1]: a backend is a host and a port, nothing else (write \"app:9001\")",
            "route[0].backends[2]: backends are spoken to without TLS \
             (write the host and port of a plain one, as in \"127.0.0.1:9001\")",
            "route[0].backends[3]: \"app\" has no port (write \"app:9001\" if the port is 9001)",
            "route[0].backends[4]: \"::1\" has no port (write \"[::1]:9001\" if the port is 9001)",
            "route[0].backends[5]: 9001 has no host (write \"127.0.0.1:9001\")",
            "route[0].backends[6]: a backend is a host and a port; Unix sockets are not spoken",
            "route[0].backends[7]: \"0\" is not a port (ports are 1 to 65535)",
        ]
    );
    assert_eq!(
        backends(""),
        ["route[0].backends: no backend is listed, so the route leads nowhere \
          (write backends = [\"127.0.0.1:9001\"])"]
    );
    assert_eq!(
        backends("\"a:1\", { address = \"b:1\", id = \"a:1\" }, \"A:1\""),
        [
            "route[0].backends[1].id: \"a:1\" is route[0].backends[0] already \
             (list a backend once and give it a weight, or give each an id of its own)",
            "route[0].backends[2]: \"a:1\" is route[0].backends[0] already \
             (list a backend once and give it a weight, or give each an id of its own)",
        ]
    );
}

#[test]
fn cf11_a_backend_that_is_tidegate_itself() {
    for backend in ["127.0.0.1:443", "localhost:443", "127.8.8.8:443", "0.0.0.0:443"] {
        let told = told_instead("127.0.0.1:9001", backend);
        assert_eq!(
            told,
            [format!(
                "route[0].backends[0]: {backend} is tidegate itself: listener[0].address \
                 (write the address of the application)"
            )]
        );
    }
    assert_eq!(
        told_instead("127.0.0.1:9001", "127.0.0.1:9180"),
        ["route[0].backends[0]: 127.0.0.1:9180 is tidegate itself: admin.address \
          (write the address of the application)"]
    );
    // Another machine, or another family.
    parse(&PLAIN.replace("127.0.0.1:9001", "192.0.2.1:443"));
    parse(&PLAIN.replace("127.0.0.1:9001", "[::1]:443"));
}

#[test]
fn cf12_limits_that_contradict() {
    assert_eq!(
        told_below(
            "tunnels = 60\n[caps]\nconnections = 100\ntunnels = 50\nconnections_per_client = 101\n\
             tunnels_per_client = 51"
        ),
        [
            "route[0].tunnels: 60 is more than caps.tunnels = 50 \
             (write at most 50, or raise caps.tunnels)",
            "caps.connections_per_client: 101 is more than caps.connections = 100 \
             (write at most 100, or raise caps.connections)",
            "caps.tunnels_per_client: 51 is more than caps.tunnels = 50 \
             (write at most 50, or raise caps.tunnels)",
        ]
    );
    assert_eq!(
        told_below("[caps]\nconnections = 100\ntunnels = 200\n"),
        ["caps.tunnels: 200 is more than caps.connections = 100 \
          (write at most 100, or raise caps.connections)"]
    );
    // What is not written gives way.
    let caps = parse(&format!("{PLAIN}[caps]\nconnections = 100\n")).caps;
    assert_eq!((caps.connections_per_client, caps.tunnels_per_client), (100, 100));
}

#[test]
fn cf12_a_heartbeat_fits_into_the_idle_time() {
    assert_eq!(
        rendered(&format!("{PLAIN}[limits]\nidle = \"40s\"\n")),
        "proxy.toml:13:8: limits.idle: limits.idle = 40s is not longer than heartbeat.interval + \
         heartbeat.patience = 40s\n \
         13 | idle = \"40s\"\n    \
            |        ^^^^^\n    \
            help: a lost client should be noticed before the tunnel counts as idle:\n          \
            let idle be longer than 40s, or switch it or the interval \"off\"\n\n\
         proxy.toml: 1 fault"
    );
    assert_eq!(
        told_below("[heartbeat]\ninterval = \"1h\"")[0].split(':').next(),
        Some("heartbeat.interval")
    );
    // On a route: only at its own keys, once.
    let told = told_below(
        "[route.heartbeat]\npatience = \"2h\"\n[[route]]\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"b:1\"]",
    );
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("route[0].heartbeat.patience: "), "{told:?}");
    parse(&format!("{PLAIN}[limits]\nidle = \"41s\"\n"));
    parse(&format!("{PLAIN}[limits]\nidle = \"40s\"\n[heartbeat]\ninterval = \"off\"\n"));
    parse(&format!("{PLAIN}[limits]\nidle = \"off\"\n[heartbeat]\ninterval = \"24h\"\n"));
}

#[test]
fn cf12_a_faulty_key_takes_part_in_no_rule() {
    assert_eq!(
        told_below("[limits]\nidle = 5\n[heartbeat]\ninterval = \"2h\""),
        ["limits.idle: 5 has no unit (write \"5s\" if it is seconds)"]
    );
}

#[test]
fn cf12_the_drain_window_ends_before_its_deadline() {
    assert_eq!(
        told_below("[drain]\nwindow = \"30s\"\ncode = 1006"),
        [
            "drain.window: drain.window = 30s is not shorter than drain.deadline = 30s \
             (closes are spread over the window, what is left at the deadline is cut)",
            "drain.code: 1006 is not a code that may stand in a Close frame (write 1012 (service \
             restart), 1001 (going away), or 3000 to 4999 for your own)",
        ]
    );
    assert_eq!(told_below("[drain]\ncode = 1014").len(), 1);
}

#[test]
fn cf14_an_admin_listener_that_others_can_reach() {
    assert_eq!(
        told_below("[admin]\naddress = \"0.0.0.0:9180\""),
        [
            "admin.address: 0.0.0.0:9180 can be reached from other machines (it asks for no password: \
          write \"127.0.0.1:9180\", or say public = true in [admin])"
        ]
    );
    let admin = |lines: &str| parse(&format!("{PLAIN}[admin]\n{lines}\n")).admin;
    assert!(admin("address = \"0.0.0.0:9180\"\npublic = true").is_some());
    assert!(admin("address = \"[::1]:9180\"").is_some());
    assert_eq!(admin("address = \"0.0.0.0:9180\"\nenabled = false"), None);
}

#[test]
fn a_route_without_origins_is_told_the_choices() {
    assert_eq!(
        rendered(&PLAIN.replace("origins = [\"same-origin\"]\n", "")),
        "proxy.toml:8:1: route[0].origins: this key is missing
 8 | [[route]]
   | ^^^^^^^^^
   help: list the pages that may connect:
         \"same-origin\"               pages on the route's own host
         \"https://chat.example.com\"  this origin exactly
         \"https://*.example.com\"     any name below example.com
         \"missing\"                   programs that are no browsers, and send no Origin
         \"null\"                      sandboxed frames and local files
         \"*\"                         everybody: only if the backend checks for itself

proxy.toml: 1 fault"
    );
    assert!(told_instead("[\"same-origin\"]", "[]")[0].contains("no origin is listed"));
    assert_eq!(
        told_instead("\"same-origin\"", "\"null\", \"*\""),
        ["route[0].origins[1]: \"*\" admits everybody, so the other origins mean nothing \
          (leave \"*\" out, or write origins = [\"*\"] alone)"]
    );
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    let told = rendered("");
    assert!(
        told.contains("there is no [[listener]]") && told.contains("there is no [[route]]"),
        "{told}"
    );
}

#[test]
fn tls_needs_a_certificate_and_one_default_is_enough() {
    let certificate = "[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n";
    let told = told_instead(certificate, "");
    assert!(
        told[0].starts_with("listener[0]: it speaks TLS, and there is no [[certificate]]"),
        "{told:?}"
    );
    parse(&PLAIN.replace(certificate, "").replace("443\"", "80\"\ntls = false"));
    let two = format!("{PLAIN}{}", format!("{certificate}default = true\n").repeat(2));
    assert_eq!(
        super::tests::told(&two),
        ["certificate[2].default: there is a default already: certificate[1].default \
          (leave one default = true: it serves clients whose name no certificate has)"]
    );
    assert_eq!(told_instead("chain = \"fullchain.pem\"\n", "").len(), 1);
}

#[test]
fn what_is_repeated_from_the_file_is_harmless_and_short() {
    let long = "x".repeat(1 << 20);
    for text in [r"\u001b[2J\u202e\r\n", &long] {
        let lines = format!(
            "name = \"\"\n\"{text}\" = 1\ncompression = \"{text}\"\n[limits]\nidle = \"{text}\""
        );
        for told in told_below(&lines) {
            assert!(told.chars().count() < 1000, "{}", told.len());
            assert!(!told.contains(['\u{1b}', '\u{202e}', '\r', '\n']), "{told:?}");
        }
    }
}

#[test]
fn faults_have_one_line_each_for_a_log() {
    let faults =
        Settings::parse(&format!("{PLAIN}[limits]\nidle = 5\n"), "proxy.toml").unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        ["proxy.toml:13:8: limits.idle: 5 has no unit (write \"5s\" if it is seconds)"]
    );
}

#[test]
fn every_kind_of_table_is_known() {
    for key in
        ["server.workers", "listener[].address", "route[].limits.idle", "route[].backends[].id"]
    {
        assert!(known_keys().iter().any(|known| known == key), "{key}");
    }
}

proptest! {
    /// Whatever stands in the file, there is an answer, and it can be shown.
    #[test]
    fn no_text_ends_the_program(at in 0..PLAIN.len(), cut in 0..20_usize, insert in "\\PC{0,6}|[\\[\\]{}=\"',.\n#]{0,6}") {
        let mut text = PLAIN.to_owned();
        text.replace_range(at..(at + cut).min(PLAIN.len()), &insert);
        if let Err(faults) = Settings::parse(&text, "proxy.toml") {
            prop_assert!(faults.count() > 0);
            prop_assert!(!faults.to_string().is_empty());
        }
    }
}
