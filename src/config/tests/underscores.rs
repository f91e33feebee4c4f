//! Names with underscores that a route forwards.

use super::{PLAIN, errors_below, parse};

// Requirements: RL47.
#[test]
fn underscore_names_are_validated() {
    let parsed = parse(&format!("{PLAIN}underscore_headers = [\"X_Token\", \"a-b_c\"]\n"));
    assert_eq!(parsed.routes[0].underscore_headers, ["x_token", "a-b_c"]);
    assert_eq!(parse(PLAIN).routes[0].underscore_headers, [""; 0]);
    for name in [
        "X_Forwarded_For",
        "x-forwarded_proto",
        "x_real_ip",
        "true_client-ip",
        "content_length",
        "transfer_encoding",
        "sec_websocket_key",
        "x_request_id",
        "proxy_authorization",
    ] {
        let errors = errors_below(&format!("underscore_headers = [\"{name}\"]"));
        assert!(
            errors[0].contains("cannot be forwarded: applications that follow CGI"),
            "{errors:?}"
        );
    }
    assert_eq!(
        errors_below("underscore_headers = [\"X-Token\"]"),
        ["route[0].underscore_headers[0]: x-token has no underscore, so it is forwarded anyway \
          (remove it from this list)"]
    );
    for rule in ["set = [\"X-User: a\"]", "remove = [\"x_user\"]"] {
        let lines = format!("underscore_headers = [\"x_user\"]\n[route.request_headers]\n{rule}");
        assert!(errors_below(&lines)[0].contains("which request_headers changes"), "{rule}");
    }
    assert_eq!(
        errors_below("underscores_in_headers = [\"x_user\"]"),
        ["route[0].underscores_in_headers: unknown key (did you mean \"underscore_headers\"?)"]
    );
}
