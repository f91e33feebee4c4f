//! Pools that routes refer to by name.

use std::sync::Arc;

use super::*;
use crate::config::explain::difference::AffectedTunnels;

/// [`PLAIN`] with the backend in a pool of this name, which the route refers to as `meant`.
fn pooled(name: &str, meant: &str) -> String {
    let route = PLAIN.replace(BACKENDS, &format!("pool = {meant}"));
    format!("{route}[[pool]]\nname = \"{name}\"\n{BACKENDS}\n")
}

const BACKENDS: &str = "backends = [\"127.0.0.1:9001\"]";

#[test]
fn routes_share_one_pool() {
    let other = "[[route]]\nhost = \"b.example\"\norigins = [\"*\"]\npool = \"chat\"\n";
    let settings = parse(&format!("{}{other}", pooled("chat", "\"chat\"")));
    let [a, b] = &settings.routes[..] else { panic!("{settings:?}") };
    assert!(Arc::ptr_eq(&a.pool, &b.pool) && Arc::ptr_eq(&a.pool, &settings.pools[0]));
    assert_eq!(a.pool.name.as_deref(), Some("chat"));
    assert_eq!(a.pool.backends, parse(PLAIN).routes[0].pool.backends);
    assert_eq!(parse(PLAIN).routes[0].pool.name, None);
    assert_eq!(
        parse(&PLAIN.replace(BACKENDS, &format!("{BACKENDS}\npool = \"off\""))),
        parse(PLAIN)
    );
}

#[test]
fn unknown_pool_suggests_a_name() {
    let message = |meant: &str| errors(&pooled("chat", meant)).join("; ");
    assert_eq!(
        message("\"caht\""),
        "route[0].pool: there is no [[pool]] with the name \"caht\" (did you mean \"chat\"?)"
    );
    assert_eq!(
        message("\"zebra\""),
        "route[0].pool: there is no [[pool]] with the name \"zebra\" (write one of \"chat\")"
    );
    assert_eq!(
        errors_replacing(BACKENDS, "pool = \"chat\""),
        [
            "route[0].pool: there is no [[pool]] with the name \"chat\" (add [[pool]] name = \"chat\" \
          backends = [\"127.0.0.1:9001\"])"
        ]
    );
    assert_eq!(
        message("[\"127.0.0.1:9001\"]"),
        "route[0].pool: a route refers to a pool by its name (write pool = \"chat\", or \
         backends = [...] for a list)"
    );
    // The name may be the one that has an error.
    let invalid = pooled("chat", "\"caht\"").replace("name = \"chat\"", "name = 7");
    assert_eq!(errors(&invalid).len(), 1, "{:?}", errors(&invalid));
    let shown = rendered(&pooled("chat", "\"caht\""));
    assert!(shown.contains("proxy.toml:11:8: ") && shown.contains("|        ^^^^^^\n"), "{shown}");
}

#[test]
fn faults_of_pools_are_reported() {
    let more = |lines: &str| errors(&format!("{}{lines}\n", pooled("chat", "\"chat\"")));
    assert_eq!(
        more("[[pool]]\nname = \"chat\"\nbackends = [\"b:1\"]"),
        ["pool[1].name: \"chat\" is already used by pool[0] (give each pool its own name)"]
    );
    assert_eq!(
        more("[[pool]]\nname = \"off\"\nbackends = []"),
        [
            "pool[1].name: pool = \"off\" in a [[route]] means that it uses no pool \
             (choose another name)",
            "pool[1].backends: the list is empty, so requests could not be forwarded \
             (write backends = [\"127.0.0.1:9001\"])",
        ]
    );
    assert_eq!(
        more("[[pool]]\nservers = [\"a:1\"]"),
        [
            "pool[1].name: this key is missing (write the name that routes use: name = \"chat\")",
            "pool[1].servers: unknown key (did you mean \"backends\"?)",
        ]
    );
    assert_eq!(
        more("[[pool]]\nname = \"b\"\nbackends = [\"b:1\", \"b:1\"]"),
        ["pool[1].backends[1]: \"b:1\" is already used by pool[1].backends[0] \
          (list a backend once and give it a weight, or give each an id of its own)"]
    );
    let both = PLAIN.replace(BACKENDS, &format!("{BACKENDS}\npool = \"chat\""));
    assert_eq!(
        errors(&format!("{both}[[pool]]\nname = \"chat\"\nbackends = [\"b:1\"]\n")),
        ["route[0].pool: this route lists backends of its own as well \
          (remove pool, or move the backends to the [[pool]])"]
    );
    assert_eq!(
        errors_replacing(BACKENDS, "pool = \"off\""),
        ["route[0].backends: this key is missing (list its backends: backends = \
          [\"127.0.0.1:9001\"])"]
    );
}

#[test]
fn addresses_of_names_are_backends() {
    let resolved = |lines: &str| {
        let text = format!("{PLAIN}[[pool]]\nname = \"chat\"\n{lines}\n");
        let pool = parse(&text).pools[0].clone();
        let expanded = pool.backends.iter().map(|backend| backend.is_per_address);
        (pool.resolve.map(|interval| interval.as_secs()), expanded.collect::<Vec<_>>())
    };
    let backends =
        "backends = [\"a:1\", \"127.0.0.1:1\", \"unix:/a\", { address = \"b:1\", id = \"b\" }]";
    assert_eq!(resolved(backends), (Some(10), vec![true, false, false, false]));
    assert_eq!(resolved(&format!("{backends}\nresolve = \"1s\"")).0, Some(1));
    let off = format!("{backends}\nresolve = \"off\"");
    assert_eq!(resolved(&off), (None, vec![false; 4]));
    let errors = |lines: &str| errors(&format!("{PLAIN}[[pool]]\nname = \"chat\"\n{lines}\n"));
    assert_eq!(
        errors("backends = [\"a:1\"]\nresolve = \"500ms\""),
        ["pool[0].resolve: names would be looked up more than once a second \
          (the minimum is \"1s\"; \"off\" makes each name one backend)"]
    );
    assert_eq!(
        errors("backends = [\"127.0.0.1:1\", { address = \"a:1\", id = \"a\" }]\nresolve = \"1m\""),
        ["pool[0].resolve: no backend of this pool is a host name without id and cookie_value \
          (remove resolve)"]
    );
}

#[test]
fn source_addresses_fit_their_backends() {
    let pool = |lines: &str| format!("{PLAIN}[[pool]]\nname = \"chat\"\n{lines}\n");
    let bound = pool("backends = [\"a:1\"]\nbind = [\"10.0.0.2\", \"[::1]\"]");
    let bound = parse(&bound).pools[0].bind.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(bound, ["10.0.0.2", "::1"]);
    for (bind, expected) in [
        (
            "\"10.0.0.2:0\"",
            "\"10.0.0.2:0\" is not an IP address (write an address of this machine, without a port: bind = [\"10.0.0.2\"])",
        ),
        (
            "\"0.0.0.0\"",
            "connections cannot come from 0.0.0.0 (write an address of this machine, or remove bind)",
        ),
        ("\"::1\"", "no backend of this pool is reached over IPv6 (remove this address)"),
    ] {
        let text = pool(&format!("backends = [\"127.0.0.1:1\", \"unix:/a\"]\nbind = [{bind}]"));
        assert_eq!(errors(&text), [format!("pool[0].bind[0]: {expected}")]);
    }
    let twice = pool("backends = [\"127.0.0.1:1\"]\nbind = [\"127.0.0.2\", \"127.0.0.2\"]");
    assert_eq!(
        errors(&twice),
        ["pool[0].bind[1]: 127.0.0.2 is listed twice (list each address once)"]
    );
}

#[test]
fn unused_pool_is_a_warning() {
    let text = pooled("chat", "\"chat\"");
    assert_eq!(parse(&text).pool_warnings(), []);
    let unused = parse(&format!("{text}[[pool]]\nname = \"b\"\nbackends = [\"b:1\"]\n"));
    let warnings = unused.pool_warnings();
    assert_eq!((warnings.len(), warnings[0].key.as_str()), (1, "pool[1].name"));
    assert!(warnings[0].problem.starts_with("no route uses this pool: write pool = \"b\""));
}

#[test]
fn differing_proxy_protocol_is_a_warning() {
    let text = pooled("chat", "\"chat\"");
    let route =
        "[[route]]\nname = \"two\"\nhost = \"b.example\"\norigins = [\"*\"]\npool = \"chat\"\n";
    assert_eq!(parse(&format!("{text}{route}")).pool_warnings(), []);
    let warnings = parse(&format!("{text}{route}proxy_protocol = true\n")).pool_warnings();
    assert_eq!((warnings.len(), warnings[0].key.as_str()), (1, "route[1].proxy_protocol"));
    assert!(warnings[0].problem.contains("with and without a PROXY header"), "{warnings:?}");
}

#[test]
fn changes_of_a_pool_are_reported_once() {
    let file = |backends: &str| {
        let other = "[[route]]\nhost = \"b.example\"\norigins = [\"*\"]\npool = \"chat\"\n";
        pooled("chat", "\"chat\"").replace("\"127.0.0.1:9001\"", backends) + other
    };
    let found = differences(&parse(&file("\"a:1\", \"b:1\"")), &parse(&file("\"a:1\", \"c:1\"")));
    let shown: Vec<(&str, &str, &str)> = found
        .iter()
        .map(|found| (&*found.change.section, &*found.change.name, &*found.change.action))
        .collect();
    assert_eq!(
        shown,
        [("backend", "c:1 of pool chat", "added"), ("backend", "b:1 of pool chat", "removed")]
    );
    let routes = vec!["chat.example.com".into(), "b.example".into()];
    assert_eq!(found[1].affected, AffectedTunnels::Backend { routes, id: "b:1".into() });
    assert!(found[1].change.effect.ends_with("its tunnels stay open"), "{found:?}");
}

#[test]
fn moving_backends_to_a_pool_changes_no_backend() {
    let found = changes(&parse(PLAIN), &parse(&pooled("chat", "\"chat\"")));
    let shown: Vec<(&str, &str)> =
        found.iter().map(|change| (&*change.name, &*change.action)).collect();
    assert_eq!(
        shown,
        [
            ("chat.example.com", "changed"),
            ("chat", "added"),
            ("127.0.0.1:9001 of pool chat", "added"),
        ]
    );
    assert_eq!(found[0].keys.len(), 1);
    assert_eq!(found[0].keys[0].key, "route[0].pool");
}
