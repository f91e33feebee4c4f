//! TLS to the backends of a pool.

use std::path::Path;

use super::*;

/// [`PLAIN`] with a pool of this backend, followed by these lines of the pool.
fn pooled(backend: &str, lines: &str) -> String {
    let route = PLAIN.replace("backends = [\"127.0.0.1:9001\"]", "pool = \"app\"");
    format!("{route}[[pool]]\nname = \"app\"\nbackends = [\"{backend}\"]\n{lines}\n")
}

fn faults(backend: &str, lines: &str) -> Vec<String> {
    errors(&pooled(backend, lines))
}

#[test]
fn defaults_verify_the_host() {
    let settings = |lines: &str| parse(&pooled("app.internal:443", lines)).pools[0].tls.clone();
    let tls = settings("tls = true").unwrap();
    assert_eq!((&tls.ca, &tls.server_name, &tls.verify_name), (&None, &None, &None));
    assert_eq!((&tls.certificate, tls.insecure_skip_verify), (&None, false));
    assert_eq!(settings("[pool.tls]\nca = \"system\"").as_ref(), Some(&tls));
    assert_eq!(settings("tls = { server_name = \"auto\" }").as_ref(), Some(&tls));
    assert_eq!(settings("tls = false"), None);
    assert_eq!(settings(""), None);
    let own = settings(
        "[pool.tls]\nca = \"/etc/ca.pem\"\nserver_name = \"Front.Example\"\nverify_name = \"192.0.2.1\"\n\
         certificate = \"c.pem\"\nkey = \"k.pem\"",
    )
    .unwrap();
    assert_eq!(own.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(own.server_name.as_deref(), Some("front.example"));
    assert_eq!(own.verify_name.as_deref(), Some("192.0.2.1"));
    let certificate = own.certificate.as_ref().unwrap();
    assert_eq!(
        (certificate.chain.as_path(), certificate.key.as_path()),
        (Path::new("c.pem"), Path::new("k.pem"))
    );
}

#[test]
fn faults_of_tls_are_reported() {
    for (lines, expected) in [
        (
            "tls = \"on\"",
            "tls: expected true, false or a table, found \"on\" (write tls = true, or [pool.tls] with its keys)",
        ),
        (
            "[pool.tls]\nserver_name = \"192.0.2.1\"",
            "tls.server_name: an IP address is never sent as a server name (write verify_name = \"192.0.2.1\")",
        ),
        (
            "[pool.tls]\nverify_name = \"app:443\"",
            "tls.verify_name: \"app:443\" cannot be the name in a certificate (write one host name or IP \
             address, without a port and wildcards)",
        ),
        (
            "[pool.tls]\ncertificate = \"c.pem\"",
            "tls.certificate: a client certificate consists of certificate and key (add key = \"client-key.pem\")",
        ),
        (
            "[pool.tls]\nkey = \"k.pem\"",
            "tls.key: a client certificate consists of certificate and key (add certificate = \"client.pem\")",
        ),
        (
            "[pool.tls]\ninsecure_skip_verify = true\nca = \"ca.pem\"",
            "tls.ca: insecure_skip_verify = true accepts any certificate, so this has no effect (remove \
             insecure_skip_verify)",
        ),
        (
            "[pool.tls]\ninsecure_skip_verfy = true",
            "tls.insecure_skip_verfy: unknown key (did you mean \"insecure_skip_verify\"?)",
        ),
    ] {
        assert_eq!(faults("app.internal:443", lines), [format!("pool[0].{expected}")], "{lines}");
    }
}

#[test]
fn unix_socket_needs_a_name_to_verify() {
    assert_eq!(
        faults("unix:/run/app.sock", "tls = true"),
        [
            "pool[0].backends[0]: a Unix socket has no name that its certificate could be valid for (add \
          server_name = \"app.internal\" to [pool.tls])"
        ]
    );
    for keys in ["server_name = \"app\"", "verify_name = \"app\"", "insecure_skip_verify = true"] {
        parse(&pooled("unix:/run/app.sock", &format!("[pool.tls]\n{keys}")));
    }
}

#[test]
fn unverified_pools_are_warned_of() {
    let warnings = |keys: &str| {
        let settings = parse(&pooled("app:443", &format!("[pool.tls]\n{keys}")));
        settings.pool_warnings().into_iter().map(|warning| warning.key).collect::<Vec<_>>()
    };
    assert_eq!(warnings("insecure_skip_verify = true"), ["pool[0].tls.insecure_skip_verify"]);
    assert_eq!(warnings("insecure_skip_verify = false"), [""; 0]);
}

#[test]
fn tls_of_a_route_is_a_key_of_a_pool() {
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", "{ address = \"app:443\", tls = true }"),
        ["route[0].backends[0].tls: unknown key (write tls in [[pool]])"]
    );
}

#[test]
fn turning_tls_on_is_one_change() {
    let found = changes(
        &parse(&pooled("app:443", "")),
        &parse(&pooled("app:443", "[pool.tls]\nca = \"ca.pem\"")),
    );
    assert_eq!((found.len(), &*found[0].name, &*found[0].action), (1, "app", "changed"));
    let keys: Vec<&str> = found[0].keys.iter().map(|key| key.key.as_str()).collect();
    assert!(keys.contains(&"pool[0].tls.ca") && keys.len() == 6, "{keys:?}");
}
