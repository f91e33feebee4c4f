//! Paths that some servers read as paths of another route.

use crate::support::head::{assert_rejected_with, get, to_cases};
use crate::support::{Backend, Client, HANDSHAKE, Proxy, route};

/// A route for everything and one for `/admin`, with these keys.
fn two_routes(backend: &Backend, main: &str, admin: &str) -> String {
    let route = route(&[backend.address], "");
    let with = |keys: &str| route.replace("\norigins", &format!("\n{keys}\norigins"));
    with(main) + &with(&format!("path = \"/admin\"\n{admin}")).replace("\"all\"", "\"admin\"")
}

// Requirements: RL12.
#[tokio::test]
async fn rejects_ambiguous_paths() {
    let routes = |backend: &Backend| two_routes(backend, "", "");
    let targets = [
        "/a/%2e%2e%2fadmin",
        "/a/..%2fadmin",
        "/x/..;/admin",
        "/admin;x",
        "//admin",
        "/%61dmin%2f..",
        "/a%5c..%5c..%5cadmin",
        // A host before the path.
        "//x/admin",
        "//x:80/admin",
        "//u@x/admin?y",
        "///x/admin",
        "/%5cx/admin",
        "http://localhost//x/admin",
        "/%2561dmin",
        "/admin%00",
        "/admin%20/x",
        "/x/%c0%ae%c0%ae/admin",
    ];
    assert_rejected_with(&routes, to_cases(targets.map(get), 400, "request_invalid")).await;
}

// Requirements: RL12.
#[tokio::test]
async fn page_of_another_site_cannot_avoid_a_route() {
    let backend = Backend::echo().await;
    let routes = two_routes(&backend, "", "").replace(
        "path = \"/admin\"\n\norigins = [\"*\"]",
        "path = \"/admin\"\n\norigins = [\"https://localhost\"]",
    );
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    let handshake = |target: &str| {
        let line = format!("GET {target} ");
        let origin = "\r\nOrigin: https://evil.example\r\n\r\n";
        HANDSHAKE.replacen("GET /ws ", &line, 1).replacen("\r\n\r\n", origin, 1)
    };
    for (target, status) in [("/admin", 403), ("//x/admin", 400), ("//x/y", 101)] {
        let response = client.request(handshake(target).as_bytes()).await;
        assert_eq!(response.status, status, "{target}");
    }
    let record = proxy.end_record("request_invalid").await;
    assert_eq!(
        record["detail"],
        "ambiguous path: route \"all\" as it is, but another one for servers that do this: removing a \
         host after //"
    );
}

// Requirements: RL12.
#[tokio::test]
async fn ambiguous_paths_pass_where_they_are_allowed() {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::start(&two_routes(&backend, "ambiguous_paths = \"allow\"", "")).await;
    let client = Client::new(&proxy).await;
    for (target, status) in [("//x/admin", 204), ("/admin/../x", 204), ("/admin/..;/x", 400)] {
        assert_eq!(client.request(get(target).as_bytes()).await.status, status, "{target}");
    }
    let heads = backend.heads();
    assert!(heads[0].starts_with("GET //x/admin "), "{heads:?}");
    // A host with one route has no ambiguous paths.
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let client = Client::new(&proxy).await;
    assert_eq!(client.request(get("//x/..%2fadmin;y").as_bytes()).await.status, 204);
}

#[tokio::test]
async fn case_is_ignored_where_configured() {
    let backend = Backend::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let routes = two_routes(&backend, "", "case_sensitive = false\ndeny = [\"127.0.0.0/8\"]");
    let proxy = Proxy::start(&routes).await;
    let client = Client::new(&proxy).await;
    for (target, status) in [
        ("/Admin", 403),
        ("/ADMIN/x", 403),
        ("//x/aDMIN", 400),
        ("/%41dmin", 400),
        ("/Adminx", 204),
    ] {
        assert_eq!(client.request(get(target).as_bytes()).await.status, status, "{target}");
    }
}
