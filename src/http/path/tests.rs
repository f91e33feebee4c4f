//! Which paths are ambiguous.

use super::*;

/// The routes `/a`, `/admin` and `/`, by whole segments.
fn route(path: &str) -> &'static str {
    let within = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ["/admin", "/a"].into_iter().find(|prefix| within(prefix)).unwrap_or("/")
}

#[test]
fn plain_paths_have_one_reading() {
    for raw in ["/", "/chat", "/a/b.c/", "/~x/-y_z", "/a:b/@c", "/x.y/z"] {
        let path = RoutePath::new(raw);
        assert_eq!(path.normalized(), raw);
        assert_eq!(path.normal, None, "{raw}");
    }
}

// Requirements: RL12.
#[test]
fn path_that_routes_differently_is_ambiguous() {
    for raw in [
        "/a/../admin",
        "/a/%2e%2e/admin",
        "/a/.%2E/admin/",
        "/a/..%2fadmin",
        "/a%2F..%2Fadmin",
        "/a/..%5cadmin",
        "/admin%2fx",
        "/admin;x/y",
        "/x/..;/admin",
        "//admin",
        "/./admin",
        "/%61dmin",
        "/x/../../admin",
        // A backend may keep the dot segments, or remove them before it merges slashes.
        "/%61dmin/..",
        "/%61dmin%2f..",
        "/admin%2f%2f..",
    ] {
        assert!(RoutePath::new(raw).check_readings(route).is_err(), "{raw}");
    }
}

// Requirements: RL12.
#[test]
fn host_in_the_path_is_removed_by_some_servers() {
    for raw in [
        "//x/admin",
        "//x:80/admin",
        "//u@x/admin",
        "//u:p@[::1]:80/admin/y",
        "///x/admin",
        "////x/admin",
        "//x//admin",
        "//x/%61dmin",
        "//x/y/../admin",
        "//x/y%2fz/%2e%2e/admin",
        "//x/admin;y",
        "/a/..//x/admin",
        "/%2fx/admin",
        "/%5cx/admin",
        "/%5C%5cx%5Cadmin",
        "/%2f%5cx/admin",
    ] {
        assert!(RoutePath::new(raw).check_readings(route).is_err(), "{raw}");
    }
    assert_eq!(RoutePath::new("//x/y").check_readings(route), Ok(()));
    let steps = RoutePath::new("//x/admin").check_readings(route);
    assert_eq!(
        steps.unwrap_err(),
        "another one for servers that do this: removing a host after //"
    );
    let steps = RoutePath::new("/%2fx/%61dmin").check_readings(route);
    assert_eq!(
        steps.unwrap_err(),
        "another one for servers that do this: decoding %XX, then removing a host after //"
    );
}

// Requirements: RL12.
#[test]
fn less_common_readings_are_known() {
    for raw in [
        // Decoded twice.
        "/%2561dmin",
        "/x%252f..%252fadmin",
        "/x/%25252e%25252e/admin",
        // Other encodings of letters, dots and slashes.
        "/%u0061dmin",
        "/x/%u002e%u002e/admin",
        "/x%c0%af..%c0%afadmin",
        "/x/%c0%ae%c0%2e/admin",
        "/x/%e0%80%ae%F0%80%80%ae/admin",
        "/x/%c1%9c..%c1%1cadmin",
        "/%ef%bd%81dmin",
        "/x%uff0f..%uFF0Fadmin",
        // Suffixes that are cut off.
        "/admin%00x",
        "/admin%3fx",
        "/admin%23x",
        "/y/../admin;/../../z",
        "/admin.",
        "/admin./x",
        "/admin%20/x",
        "/admin%20.%20",
        "/x/..%20/admin",
        "/admin::$DATA",
        "/admin:$i30:$INDEX_ALLOCATION/x",
        "/ad%09min",
        "/admin%0a",
        "/admin%01",
        "/x%e2%88%95..%E2%81%84admin",
        // Strict and lenient decoding differ.
        "/x/..%2fadmin%2f%c0%ae%c0%ae%2f..%2fx",
    ] {
        assert!(RoutePath::new(raw).check_readings(route).is_err(), "{raw}");
    }
}

// Requirements: RL12.
#[test]
fn unusual_paths_to_one_route_pass() {
    for raw in [
        "/admin/%2e/x",
        "/a/b%2Fc",
        "/a/x;v=1",
        "/a//b",
        "/x%20y",
        "/%C3%A9",
        "/%ff%zz%",
        "/xadmin/..;x/",
        "/a/https://example.com/admin",
        "/a/100%25%20sure;v=1/x./%2F%2F/../y%3F",
        "/x/%E0%A4%A8/%u00e9",
        "/admin.x",
        "/adminx%20",
        "/admin:list",
        "/%",
        "/%u",
        "/%uD800",
    ] {
        assert_eq!(RoutePath::new(raw).check_readings(route), Ok(()), "{raw}");
    }
    // A single catch-all route is never ambiguous.
    assert_eq!(RoutePath::new("//a%2Fb/../c;x").check_readings(|_| "/"), Ok(()));
}

#[test]
fn number_of_readings_is_bounded() {
    // The steps of all kinds, on a long path and on a short one.
    for raw in [
        format!("/a/{}", "%25%2f;x//./y.%5c".repeat(900)),
        "/a/%252525252525%2f%ef%bc%8f%u0061;x%3f;y//.%5c//%5c../z./%20/:$x".to_owned(),
    ] {
        let path = RoutePath::new(&raw);
        assert_eq!(path.check_readings(|_| ()).unwrap_err(), "too many other readings to compare");
    }
}

#[test]
fn dot_segments_are_removed() {
    for (raw, normal) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a//../b", "/a/b"),
        ("/...", "/..."),
        ("/%7Ea%2f", "/~a%2f"),
    ] {
        assert_eq!(RoutePath::new(raw).normalized(), normal, "{raw}");
    }
}

#[test]
fn folded_texts_ignore_case() {
    assert_eq!(folded("/AdmIn"), folded("/admin"));
    assert_eq!(folded("/\u{212A}\u{17F}"), "/ks");
}
