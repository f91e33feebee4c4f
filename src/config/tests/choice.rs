//! How a pool chooses among its backends.

use super::*;
use crate::config::settings::choice::{Balance, ChoiceSettings};

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
