use std::num::NonZeroU32;

use hyper::header::COOKIE;
use proptest::prelude::*;

use super::*;
use crate::config::settings::choice::{CookieAttributes, SameSite};
use crate::config::values::backend_address::BackendAddress;

fn settings() -> PinSettings {
    PinSettings {
        cookie: "pin".into(),
        key_file: "pin.key".into(),
        attributes: CookieAttributes::default(),
    }
}

fn backends(ids: &[&str]) -> Vec<BackendSettings> {
    let backend = |id: &&str| BackendSettings {
        id: (*id).into(),
        address: BackendAddress::Tcp { host: "127.0.0.1".into(), port: 9 },
        is_per_address: false,
        weight: NonZeroU32::MIN,
        is_backup: false,
        is_canary: false,
        max_tunnels: None,
        cookie_value: Some(format!("old-{id}").into()),
    };
    ids.iter().map(backend).collect()
}

fn table(keys: &[u8], ids: &[&str]) -> PinCookies {
    PinCookies::new(&settings(), &PinKeys::sample(keys), &backends(ids))
}

fn cookies_of(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let pairs: Vec<String> = values.iter().map(|value| format!("pin={value}")).collect();
    headers.insert(COOKIE, pairs.join("; ").parse().unwrap());
    headers
}

/// The `Set-Cookie` for a client with this cookie whose request this backend has answered.
fn issued(table: &PinCookies, cookie: &str, id: &str) -> Option<String> {
    let mut response = HeaderMap::new();
    table.issue(table.read(&cookies_of(&[cookie])).as_ref(), id, &mut response);
    response.get(SET_COOKIE).map(|field| field.to_str().unwrap().to_owned())
}

/// The value in a `Set-Cookie`.
fn value(field: &str) -> &str {
    field.strip_prefix("pin=").and_then(|rest| rest.split(';').next()).unwrap()
}

/// Machines with another version must issue and accept the same values.
#[test]
fn value_never_changes() {
    let field = issued(&table(&[1], &["a"]), "", "a").unwrap();
    assert_eq!(
        field,
        "pin=i7QJkt0-SAqqdvJSX7i5KXE1BhiNZur7; Path=/; SameSite=Lax; Secure; HttpOnly"
    );
}

#[test]
fn issued_value_leads_back_to_its_backend() {
    let table = table(&[1], &["a", "b"]);
    for id in ["a", "b"] {
        let field = issued(&table, "", id).unwrap();
        let pinned = table.read(&cookies_of(&["x", value(&field)])).unwrap();
        assert_eq!((&*pinned.id, pinned.reason), (id, ChosenBy::Pin));
        assert_eq!(issued(&table, value(&field), id), None, "the client has it already");
    }
    let of_a = issued(&table, "", "a").unwrap();
    assert_eq!(issued(&table, value(&of_a), "b"), issued(&table, "", "b"), "another one answered");
}

#[test]
fn machines_with_the_key_accept_the_value() {
    let field = issued(&table(&[1], &["a", "b"]), "", "a").unwrap();
    let pinned = table(&[1], &["c", "b", "a"]).read(&cookies_of(&[value(&field)])).unwrap();
    assert_eq!(&*pinned.id, "a");
    assert_eq!(table(&[2], &["a"]).read(&cookies_of(&[value(&field)])), None);
    assert_eq!(table(&[1], &["b"]).read(&cookies_of(&[value(&field)])), None, "no such backend");
}

#[test]
fn rotation_replaces_values_of_the_old_key() {
    let old = issued(&table(&[1], &["a"]), "", "a").unwrap();
    let announced = table(&[1, 2], &["a"]);
    assert_eq!(issued(&announced, value(&old), "a"), None);
    let rotated = table(&[2, 1], &["a"]);
    assert_eq!(&*rotated.read(&cookies_of(&[value(&old)])).unwrap().id, "a");
    let new = issued(&rotated, value(&old), "a").unwrap();
    assert_ne!(new, old);
    assert_eq!(&*announced.read(&cookies_of(&[value(&new)])).unwrap().id, "a");
    assert_eq!(table(&[2], &["a"]).read(&cookies_of(&[value(&old)])), None);
}

#[test]
fn values_of_another_proxy_are_accepted_and_kept() {
    let table = table(&[1], &["a", "b"]);
    for text in ["old-b", "old-b|ZzZz1|AbCd"] {
        let pinned = table.read(&cookies_of(&[text])).unwrap();
        assert_eq!((&*pinned.id, pinned.reason), ("b", ChosenBy::CookieValue));
        assert_eq!(issued(&table, text, "b"), None);
        assert_eq!(issued(&table, text, "a"), issued(&table, "", "a"));
    }
    assert_eq!(table.read(&cookies_of(&["old-", "old-c", "|old-b", ""])), None);
}

#[test]
fn attributes_follow_the_settings() {
    let attributes = CookieAttributes {
        path: "/app".into(),
        domain: Some("example.com".into()),
        http_only: false,
        same_site: SameSite::None,
        partitioned: true,
        ..CookieAttributes::default()
    };
    let settings = PinSettings { attributes, ..settings() };
    let table = PinCookies::new(&settings, &PinKeys::sample(&[1]), &backends(&["a"]));
    let field = issued(&table, "", "a").unwrap();
    let attributes = field.split_once("; ").unwrap().1;
    assert_eq!(attributes, "Path=/app; Domain=example.com; SameSite=None; Secure; Partitioned");
}

#[test]
fn shared_responses_get_no_cookie() {
    let table = table(&[1], &["a"]);
    let is_issued = |cache_control: &'static str| {
        let mut response = HeaderMap::new();
        response.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        table.issue(None, "a", &mut response);
        response.contains_key(SET_COOKIE)
    };
    for shared in ["public", "max-age=60, Public", "s-maxage=5"] {
        assert!(!is_issued(shared), "{shared}");
    }
    for private in ["private", "max-age=60", "no-store", "x-public"] {
        assert!(is_issued(private), "{private}");
    }
}

proptest! {
    #[test]
    fn other_values_name_no_backend(mut bytes in proptest::collection::vec(any::<u8>(), 24), flip in 0usize..192) {
        let table = table(&[1], &["a", "b"]);
        prop_assert_eq!(table.parse(&bytes), None);
        prop_assert_eq!(table.parse(BASE64URL_NOPAD.encode(&bytes).as_bytes()), None);
        // One wrong bit.
        let field = issued(&table, "", "a").unwrap();
        bytes = BASE64URL_NOPAD.decode(value(&field).as_bytes()).unwrap();
        bytes[flip / 8] ^= 1 << (flip % 8);
        prop_assert_eq!(table.parse(BASE64URL_NOPAD.encode(&bytes).as_bytes()), None);
    }
}
