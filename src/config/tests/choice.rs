//! How a pool chooses among its backends.

use super::*;
use crate::config::settings::choice::{
    Balance, ChoiceSettings, CookieAttributes, QueueSettings, RebalanceMode,
};

/// [`PLAIN`] with a pool that has these keys as well.
fn pool(keys: &str) -> String {
    let route = PLAIN.replace("backends = [\"127.0.0.1:9001\"]", "pool = \"chat\"");
    format!("{route}[[pool]]\nname = \"chat\"\nbackends = [\"a:1\", \"b:1\"]\n{keys}\n")
}

#[test]
fn client_hash_is_the_default() {
    let settings = parse(&pool(""));
    assert_eq!(settings.pools[0].choice, ChoiceSettings::default());
    assert_eq!(parse(PLAIN).routes[0].pool.choice, ChoiceSettings::default());
}

#[test]
fn keys_of_a_choice_are_read() {
    let choice = |keys: &str| parse(&pool(keys)).pools[0].choice.clone();
    let hashed = choice("hash = \"cookie:sid\"\nhash_balance_factor = 125\nslow_start = \"30s\"");
    assert_eq!(hashed.hash.to_string(), "cookie:sid");
    assert_eq!(hashed.hash_balance_factor, Some(125));
    assert_eq!(hashed.slow_start, Some(Duration::from_secs(30)));
    for (name, balance) in Balance::NAMES {
        assert_eq!(choice(&format!("balance = \"{name}\"")).balance, balance);
    }
    let backup = pool("").replace("\"b:1\"", "{ address = \"b:1\", backup = true }");
    let flags = |text: &str| parse(text).pools[0].backends.iter().map(|b| b.is_backup).collect();
    let flags: Vec<bool> = flags(&backup);
    assert_eq!(flags, [false, true]);
}

#[test]
fn faults_of_a_choice_are_reported() {
    let message = |keys: &str| errors(&pool(keys)).join("; ");
    assert_eq!(
        message("hash = \"cokie:sid\""),
        "pool[0].hash: expected \"client\", \"cookie:NAME\", \"header:NAME\", \"query:NAME\", \
         \"path:NUMBER\" or a path such as \"/room/{id}\", found \"cokie:sid\" \
         (did you mean \"cookie:sid\"?)"
    );
    assert_eq!(
        message("balance = \"least_connections\""),
        "pool[0].balance: expected \"hash\", \"least-connections\", \"round-robin\" or \
         \"random-two\", found \"least_connections\" (did you mean \"least-connections\"?)"
    );
    assert_eq!(
        message("balance = \"round-robin\"\nhash = \"client\"\nhash_balance_factor = 125"),
        "pool[0].hash: this has no effect with balance = \"round-robin\" (remove it, or write \
         balance = \"hash\"); pool[0].hash_balance_factor: this has no effect with balance = \
         \"round-robin\" (remove it, or write balance = \"hash\")"
    );
    assert_eq!(
        message("hash_balance_factor = 100"),
        "pool[0].hash_balance_factor: 100 % of its share would leave no choice to the hash (write \
         the percentage of its share that a backend may have, such as 125)"
    );
    assert_eq!(
        message("hash_balance_factor = 1001"),
        "pool[0].hash_balance_factor: 1001 is too large (the maximum is 1000)"
    );
    assert_eq!(
        message("lb_policy = \"round-robin\""),
        "pool[0].lb_policy: unknown key (did you mean \"balance\"?)"
    );
    let shown = rendered(&pool("hash = \"path:0\""));
    assert!(shown.contains("proxy.toml:15:8: ") && shown.contains(" ^^^^^^^^\n"), "{shown}");
}

#[test]
fn rebalance_needs_a_hash_alone() {
    let key = "rebalance = \"on_scale_out\"";
    let choice = |keys: &str| parse(&pool(keys)).pools[0].choice.clone();
    let (mode, default) = (choice(key), choice(""));
    assert_eq!(
        (mode.rebalance, default.rebalance),
        (RebalanceMode::OnScaleOut, RebalanceMode::Off)
    );
    assert_eq!(
        (default.rebalance_rate.get(), choice("rebalance_rate = \"500/s\"").rebalance_rate.get()),
        (20, 500)
    );
    let pin = "[pool.pin]\ncookie = \"t\"\nkey_file = \"pin.key\"";
    for (more, cause) in [
        ("balance = \"random-two\"", "balance = \"random-two\""),
        ("hash_balance_factor = 125", "hash_balance_factor"),
        (pin, "a pin cookie"),
    ] {
        let expected = format!(
            "pool[0].rebalance: this has no effect with {cause} (remove it: no client has a backend by its hash alone)"
        );
        assert_eq!(errors(&pool(&format!("{key}\n{more}"))), [expected]);
        // It is the default, and the rate is that of commands.
        assert!(
            parse(&pool(&format!("rebalance = \"off\"\nrebalance_rate = \"1/s\"\n{more}")))
                .pools
                .len()
                == 1
        );
    }
    assert_eq!(
        errors(&pool("rebalance = \"on-scale-out\"")),
        [
            "pool[0].rebalance: expected \"off\" or \"on_scale_out\", found \"on-scale-out\" (did you mean \
          \"on_scale_out\"?)"
        ]
    );
}

#[test]
fn list_of_backups_is_an_error() {
    let backup = "{ address = \"a:1\", backup = true }";
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", backup),
        [
            "route[0].backends[0].backup: every backend of this list is a backup (remove backup from \
          those that are used first)"
        ]
    );
}

#[test]
fn pin_cookie_has_safe_defaults() {
    let text = pool("[pool.pin]\ncookie = \"srv\"\nkey_file = \"pin.key\"");
    let pin = parse(&text).pools[0].choice.pin.clone().unwrap();
    assert_eq!((pin.cookie.as_str(), pin.attributes), ("srv", CookieAttributes::default()));
    assert!(pin.key_file.ends_with("pin.key"));
    let value = text.replace("\"b:1\"", "{ address = \"b:1\", cookie_value = \"b5\" }");
    assert_eq!(parse(&value).pools[0].backends[1].cookie_value.as_deref(), Some("b5"));
}

#[test]
fn faults_of_a_pin_cookie_are_reported() {
    let pin = |keys: &str| {
        errors(&pool(&format!("[pool.pin]\ncookie = \"srv\"\nkey_file = \"k\"\n{keys}"))).join("; ")
    };
    assert_eq!(
        pin("secure = false\nsame_site = \"none\""),
        "pool[0].pin.secure: browsers ignore a cookie with SameSite=None that is not Secure (remove \
         secure = false)"
    );
    assert_eq!(
        pin("secure = false\npartitioned = true"),
        "pool[0].pin.secure: browsers ignore a Partitioned cookie that is not Secure (remove secure = \
         false)"
    );
    for (key, part) in [
        ("path = \"app\"", "pool[0].pin.path: \"app\" cannot be the path of a cookie"),
        ("path = \"/;\"", "pool[0].pin.path: "),
        ("domain = \".example.com\"", "pool[0].pin.domain: "),
        ("same_site = \"Lax\"", "did you mean \"lax\"?"),
    ] {
        assert!(pin(key).contains(part), "{key}: {}", pin(key));
    }
    let named = |name: &str, keys: &str| {
        errors(&pool(&format!("[pool.pin]\ncookie = \"{name}\"\nkey_file = \"k\"\n{keys}")))
            .join("; ")
    };
    assert!(named("a b", "").starts_with("pool[0].pin.cookie: \"a b\" cannot be the name"));
    assert!(named("__Host-srv", "path = \"/app\"").contains("with a domain, or with a path"));
    assert!(named("__Secure-srv", "secure = false").contains("that is not Secure"));
    assert_eq!(
        errors(&pool("[pool.pin]\nkey_file = \"k\"")),
        ["pool[0].pin.key_file: there is no name for the cookie (write cookie = \"tidegate\" in \
          [pool.pin])"]
    );
    let without_key = errors(&pool("[pool.pin]\ncookie = \"srv\"")).join("");
    assert!(
        without_key.starts_with("pool[0].pin.cookie: the cookie needs a key (write key_file = ")
    );
    assert_eq!(
        errors(&pool("hash = \"cookie:srv\"\n[pool.pin]\ncookie = \"srv\"\nkey_file = \"k\"")),
        [
            "pool[0].hash: srv is the pin cookie, which names a backend (remove hash, or hash a cookie \
          of the application)"
        ]
    );
}

#[test]
fn values_of_other_proxies_must_lead_somewhere() {
    let valued = "{ address = \"a:1\", cookie_value = \"s1\" }";
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", valued),
        [
            "route[0].backends[0].cookie_value: this has no effect without a pin cookie (write [pool.pin] \
          with cookie and key_file)"
        ]
    );
    let twice = pool("[pool.pin]\ncookie = \"srv\"\nkey_file = \"k\"")
        .replace("\"a:1\", \"b:1\"", &format!("{valued}, {}", valued.replace("a:1", "b:1")));
    assert_eq!(
        errors(&twice),
        [
            "pool[0].backends[1].cookie_value: \"s1\" is already used by pool[0].backends[0] (a value \
          leads to one backend)"
        ]
    );
    let invalid = valued.replace("s1", "a;b");
    let shown = errors_replacing("\"127.0.0.1:9001\"", &invalid).join("");
    assert!(shown.contains("\"a;b\" cannot be the value of a cookie"), "{shown}");
}

#[test]
fn queue_needs_a_limit_of_every_backend() {
    let limited = |keys: &str| {
        let backend = |address: &str| format!("{{ address = \"{address}\", max_tunnels = 10 }}");
        let list = format!("{}, {}", backend("a:1"), backend("b:1"));
        pool(keys).replace("\"a:1\", \"b:1\"", &list)
    };
    let settings = parse(&limited("queue = 100"));
    let expected = QueueSettings { length: 100, time: Duration::from_secs(5) };
    assert_eq!(settings.pools[0].choice.queue, Some(expected));
    assert_eq!(settings.pools[0].backends[1].max_tunnels, Some(10));
    assert_eq!(
        errors(&pool("queue = 100")),
        [
            "pool[0].queue: no handshake waits, since a backend of this pool has no max_tunnels (write \
          max_tunnels for every backend, or remove queue)"
        ]
    );
    assert_eq!(
        errors(&limited("queue_time = \"1s\"")),
        ["pool[0].queue_time: this has no effect without a queue (write queue = 100, or remove \
          queue_time)"]
    );
}

#[test]
fn canary_keys_are_read_and_checked() {
    let with_canary =
        |keys: &str| pool(keys).replace("\"b:1\"", "{ address = \"b:1\", canary = true }");
    let settings =
        parse(&with_canary("[pool.canary]\nshare = \"2.5%\"\nrequest = \"cookie:beta\""));
    let canary = &settings.pools[0].choice.canary;
    let request = canary.request.as_ref().map(ToString::to_string);
    assert_eq!(
        (canary.share.to_string().as_str(), request.as_deref()),
        ("2.5%", Some("cookie:beta"))
    );
    assert!(settings.pools[0].backends[1].is_canary);
    for (keys, message) in [
        ("share = 5", "pool[0].canary.share: a share needs a unit (write \"5%\")"),
        ("share = \"0%\"", "pool[0].canary.share: \"0%\" is not a share (write \"off\", or"),
        (
            "request = \"client\"",
            "pool[0].canary.request: expected \"cookie:NAME\", \"header:NAME\"",
        ),
    ] {
        let found = errors(&with_canary(&format!("[pool.canary]\n{keys}"))).join("; ");
        assert!(found.starts_with(message), "{found}");
    }
    assert_eq!(
        errors(&pool("[pool.canary]\nshare = \"5%\"")),
        ["pool[0].canary.share: this pool has no canary (write canary = true for a backend)"]
    );
    let all = with_canary("").replace("\"a:1\"", "{ address = \"a:1\", canary = true }");
    assert_eq!(
        errors(&all),
        ["pool[0].backends[0].canary: every backend of this pool is a canary (remove canary from \
          those that serve the other requests)"]
    );
    assert_eq!(
        errors_replacing("\"127.0.0.1:9001\"", "{ address = \"a:1\", canary = true }"),
        [
            "route[0].backends[0].canary: this backend would get no requests (move the backends to a \
          [[pool]], and write [pool.canary])"
        ]
    );
}
