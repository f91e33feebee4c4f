//! Error messages when there is no answer, or no valid one.

use super::*;

#[test]
fn rejected_reload_lists_errors_and_exits_2() {
    let fault = json!({"error": {
        "kind": "rejected", "message": "the configuration is refused; the one in force stays",
        "errors": ["proxy.toml:3:8: limits.idle: 30 has no unit", "proxy.toml:9:1: unknown key"],
    }});
    let output = run_with_response(&["ctl", "reload", "--wait"], fault.clone());
    assert_eq!(output.code, Some(78));
    let expected = "proxy.toml:3:8: limits.idle: 30 has no unit\nproxy.toml:9:1: unknown key\n\
                    tidegate: the configuration is refused; the one in force stays\n";
    assert_eq!((output.out.as_str(), output.err.as_str()), ("", expected));
    let output = run_with_response(&["ctl", "reload", "--json"], fault.clone());
    assert_eq!((output.code, output.err.as_str()), (Some(78), ""));
    assert_eq!(serde_json::from_str::<Value>(&output.out).unwrap(), fault);
    // A process that is shutting down says nothing about the file.
    let fault = json!({"error": {"kind": "rejected", "message": "it is leaving"}});
    assert_eq!(run_with_response(&["ctl", "reload"], fault).code, Some(1));
}

#[test]
fn invalid_responses_are_rejected() {
    for (answer, words) in [
        (b"".to_vec(), "the connection was closed without a response"),
        (b"{\"ok\":{\"level\":".to_vec(), "the response is incomplete"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "invalid response"),
        (b"{\"ok\":{\"level\":7}}\n".to_vec(), "invalid response"),
        (b"\xff\xfe\n".to_vec(), "invalid response"),
    ] {
        for json in [false, true] {
            let args: &[&str] = match json {
                // With `--json`, any answer is passed through.
                true if answer.ends_with(b"7}}\n") => continue,
                true => &["ctl", "log-level", "--json"],
                false => &["ctl", "log-level"],
            };
            let output = FakeControlServer::new(vec![answer.clone()]).run(args);
            assert_eq!((output.code, output.out.as_str()), (Some(69), ""), "{}", output.err);
            assert!(output.err.contains(words), "{words}: {}", output.err);
        }
    }
}

#[test]
fn unreachable_socket_is_explained() {
    let folder = TempDir::new();
    let at = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(at("dead.sock")).unwrap());
    fs::write(at("file"), "").unwrap();
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    for (path, words) in [
        (at("none.sock"), "the socket does not exist"),
        (at("dead.sock"), "the process that created the socket has exited"),
        (at("file"), "the file is not a socket"),
        (folder.path().to_owned(), "the file is not a socket"),
        (long, "cannot connect"),
    ] {
        let output = run_cli(&path, &["ctl", "status"]);
        assert_eq!((output.code, output.out.as_str()), (Some(69), ""), "{}", output.err);
        let named = format!("cannot connect to the control socket {}", path.display());
        assert!(
            output.err.contains(words) && output.err.contains(&named),
            "{words}: {}",
            output.err
        );
        assert_eq!(output.err.lines().count(), 1, "{}", output.err);
    }
    // Without `--socket`, the path comes from the environment.
    let given = format!("{}:/elsewhere", folder.path().display());
    let mut status = command(&["ctl", "status"]);
    status.env("RUNTIME_DIRECTORY", given);
    for (named, expected) in [("", "control.sock"), ("other.sock", "other.sock")] {
        let named = if named.is_empty() { PathBuf::new() } else { at(named) };
        let output = output(status.env("TIDEGATE_SOCKET", named));
        assert!(output.err.contains(&at(expected).display().to_string()), "{}", output.err);
        assert!(output.err.contains("set control.socket to a path"), "{}", output.err);
    }
}

#[test]
fn permission_error_names_allowed_users() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED a user who may not: to be another user takes root");
        return;
    }
    let server = FakeControlServer::new(Vec::new());
    let socket = server.folder.path().join("control.sock");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(&socket, mode(0o600)).unwrap();
    fs::set_permissions(server.folder.path(), mode(0o755)).unwrap();
    let mut status = other_user(server.folder.path());
    let output = status.args(["ctl", "status", "--socket"]).arg(socket).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    let expected = "permission denied; only root and the user that tidegate runs as may use it";
    assert!(err.contains(expected), "{err}");
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn invalid_arguments_are_rejected_before_connecting() {
    let socket = Path::new("/nowhere");
    for (words, hint) in [
        (&["kill"][..], "required"),
        (&["kill", "--all", "--route", "r"], "cannot be used"),
        (&["kill", "7", "--code", "1005"], "1000 to 1003, 1007 to 1013, or 3000 to 4999"),
        (&["kill", "seven"], "invalid digit"),
        (&["drain"], "required"),
        (&["drain", "--all", "--window", "30"], "has no unit (write \"30s\" for seconds)"),
        (&["drain", "--all", "--rate", "100"], "is not a rate"),
        (&["undrain"], "required"),
        (&["undrain", "--all", "--route", "r"], "cannot be used"),
        (&["weight", "b", "-1"], "unexpected argument"),
        (&["weight", "b", "much"], "\"file\""),
        (&["explain", "wss://h/", "--address", "localhost"], "invalid IP address"),
        (&["log-level", "loud"], "error, warn, info, debug, trace"),
        (&["sessions", "--sort", "size"], "age, bytes, messages, rate, rtt"),
        (&["top"], "needs a terminal"),
        (&["top", "--json"], "has no --json"),
        (&[], "Usage"),
    ] {
        let words: Vec<&str> = [&["ctl"][..], words].concat();
        let output = run_cli(socket, &words);
        assert_eq!(output.code, Some(2), "{words:?}: {}", output.err);
        assert!(output.err.contains(hint), "{words:?}: {}", output.err);
    }
    let long = "x".repeat(124);
    let output = run_cli(socket, &["ctl", "kill", "7", "--reason", &long]);
    assert!(
        output.code == Some(2) && output.err.contains("a Close frame holds at most 123"),
        "{}",
        output.err
    );
}

#[test]
fn closed_output_ends_quietly() {
    let rows: Vec<Value> = (0..9000).map(|session| row(session, 1)).collect();
    let answer = format!("{}\n", json!({"ok": {"now": 5.0, "open": 9000, "sessions": rows}}));
    for more in [&[][..], &["--json"]] {
        let server = FakeControlServer::new(vec![answer.clone().into_bytes()]);
        let mut child = command(&["ctl", "sessions", "--socket"])
            .arg(server.folder.path().join("control.sock"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
    }
}
