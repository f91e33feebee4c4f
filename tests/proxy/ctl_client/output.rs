//! The output of each command, as text and as JSON.

use super::*;

#[test]
fn responses_print_as_tables() {
    let rows = json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(1, 10), row(2, 4096)]}});
    let output = run_with_response(&["ctl", "sessions", "--sort", "bytes"], rows.clone());
    let expected = "\
ID  CLIENT     ROUTE  BACKEND          AGE      UP  DOWN  MSGS UP  MSGS DOWN   RTT  BACKEND RTT
 2  192.0.2.7  chat   10.0.0.7:9001  3m12s  4.0KiB    5B        3          4  12ms            -  closing
 1  192.0.2.7  chat   10.0.0.7:9001  3m12s     10B    5B        3          4  12ms            -
2 of 9 open tunnels
";
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), expected, ""));
    let output = run_with_response(&["ctl", "sessions", "--limit", "1"], rows);
    assert!(
        output.out.ends_with("1 of 9 open tunnels\n") && output.out.contains("\n 1 "),
        "{}",
        output.out
    );
    for (open, expected) in
        [(0, "no tunnel is open\n"), (9, "none of the 9 open tunnels matches\n")]
    {
        let none = json!({"ok": {"now": 5.0, "open": open, "sessions": []}});
        assert_eq!(run_with_response(&["ctl", "sessions"], none).out, expected);
    }
    let mut detail = row(7, 1);
    detail.as_object_mut().unwrap().extend(
        json!({
            "address": "192.0.2.7:4711", "client_source": "forwarded", "tls": "1.3 X", "protocol": "h2",
            "host": "chat.example.com", "target": "/ws?token=***", "user_agent": "a\u{1b}[2Jb",
            "request_id": null, "subprotocol": null, "generation": 3, "backend_handshake_ms": 0.5,
            "client_delayed_ms": 0, "backend_delayed_ms": 1500,
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let output = run_with_response(&["ctl", "session", "7"], json!({"ok": detail}));
    for line in [
        "state            open, 3m12s old",
        "address          192.0.2.7:4711 (from forwarded)",
        "protocol         h2",
        "backend          10.0.0.7:9001 (handshake in 0.50ms)",
        "user agent       a\\u{1b}[2Jb",
        "up               1B in 3 messages",
        "backend delayed  1s",
    ] {
        assert!(output.out.lines().any(|output| output == line), "{line}: {}", output.out);
    }
}

#[test]
fn top_computes_rates_from_two_samples() {
    let list = |now: f64, rows: &[Value]| {
        format!("{}\n", json!({"ok": {"now": now, "open": 2, "sessions": rows}})).into_bytes()
    };
    let before = list(100.0, &[row(1, 10), row(2, 4096)]);
    let server = FakeControlServer::new(vec![before, list(102.0, &[row(1, 2058), row(2, 4096)])]);
    let output = server.run(&["ctl", "sessions", "--sort", "rate"]);
    let first: Vec<&str> = output.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[5], first[6]), ("1", "1.0KiB/s", "0B/s"), "{}", output.out);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn actions_print_one_sentence() {
    for (args, response, expected) in [
        (&["kill", "--all"][..], json!({"sessions": 3}), "closing 3 tunnels\n"),
        (&["kill", "--older", "1h"], json!({"sessions": 0}), "no open tunnel matches\n"),
        (
            &["undrain", "--route", "chat"],
            json!({"route": "chat"}),
            "new tunnels are admitted on route chat\n",
        ),
        (&["undrain", "--all"], json!("all"), "new tunnels are admitted\n"),
        (&["weight", "b", "5"], json!({"routes": 2, "weight": 5}), "weight 5 on 2 routes\n"),
        (
            &["maintenance", "chat", "on"],
            json!({"on": true, "file": null}),
            "route chat in maintenance: requests get 503, tunnels stay open\n",
        ),
        (
            &["maintenance", "chat", "off"],
            json!({"on": true, "file": "/run/m"}),
            "route chat stays in maintenance as long as the file /run/m exists\n",
        ),
        (
            &["maintenance", "chat", "off"],
            json!({"on": false, "file": null}),
            "route chat serves requests again\n",
        ),
        (&["log-level", "warn"], json!({"level": "warn"}), "warn\n"),
        (
            &["reload"],
            json!({"generation": 4, "changes": []}),
            "reloaded; configuration 4 is now active: nothing changed\n",
        ),
        (
            &["reload", "--wait"],
            json!({"generation": 4, "changes": [{
                "section": "route", "name": "chat", "action": "changed", "tunnels": 12,
                "effect": "open tunnels keep the old value", "keys": [
                    {"key": "route[0].limits.idle", "before": "\"1h\"", "after": "\"2h\""},
                    {"key": "route[0].subprotocols", "before": null, "after": "[]"},
                ],
            }]}),
            "reloaded; configuration 4 is now active: 1 change\n\
             route chat: changed, 12 open tunnels; open tunnels keep the old value\n    \
                 route[0].limits.idle: \"1h\" -> \"2h\"\n    \
                 route[0].subprotocols: (unset) -> []\n",
        ),
    ] {
        assert_output(args, &response, expected);
    }
}

#[test]
fn explain_and_config_print_lists() {
    for (args, response, expected) in [
        (
            &["explain", "wss://h/"][..],
            json!({"admitted": false, "status": 403, "reason": "origin_not_allowed", "steps": [
                {"check": "route", "result": "chat", "key": null, "passed": true},
                {
                    "check": "origin", "result": "https://o is not in the list",
                    "key": "route[0].origins = []", "passed": false,
                },
            ]}),
            "CHECK       RESULT\n\
             route   ok  chat\n\
             origin  NO  https://o is not in the list  (route[0].origins = [])\n\
             => the handshake would be rejected with 403: origin_not_allowed\n",
        ),
        (
            &["config", "--changed"],
            json!({"generation": 4, "file": "/etc/tidegate/proxy.toml", "keys": [
                {"key": "limits.idle", "value": "\"1h\"", "line": null, "from": "default"},
                {"key": "log.level", "value": "\"warn\"", "line": 12, "from": null},
                {"key": "route[0].limits.idle", "value": "\"1h\"", "line": null, "from": "limits.idle"},
                {"key": "backend.weight", "value": "3", "line": null, "from": "ctl"},
            ]}),
            "configuration 4 from /etc/tidegate/proxy.toml\n\n\
             KEY             FROM     VALUE\n\
             log.level       line 12  \"warn\"\n\
             backend.weight  ctl      3\n",
        ),
    ] {
        assert_output(args, &response, expected);
    }
}

fn assert_output(args: &[&str], response: &Value, expected: &str) {
    let args: Vec<&str> = [&["ctl"][..], args].concat();
    let output = run_with_response(&args, json!({ "ok": response }));
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), expected, ""));
}

#[test]
fn tail_prints_frames_until_the_end() {
    let frame = |missed: u64, code: Value| {
        json!({"ok": {
            "at": 1_735_689_599.25, "from": "backend", "injected": false, "opcode": "close",
            "fin": true, "compressed": false, "length": 2, "code": code, "skipped": missed,
        }})
    };
    let lines = format!("{}\n{}\n", frame(0, Value::Null), frame(5, 1000.into()));
    let output =
        FakeControlServer::new(vec![lines.clone().into_bytes()]).run(&["ctl", "tail", "7"]);
    let line = "23:59:59.250  backend -> client    close              2B";
    assert_eq!(output.out, format!("{line}\n... 5 frames skipped\n{line}  1000\n"));
    let output = FakeControlServer::new(vec![lines.clone().into_bytes()])
        .run(&["ctl", "tail", "7", "--json"]);
    assert_eq!((output.code, output.out), (Some(0), lines));
}

#[test]
fn json_output_is_the_raw_response() {
    // Spaces, key order and unknown keys are preserved.
    let line = "{ \"ok\":{\"new\":1, \"anything\":[true]} }\n";
    for args in [
        &["status"][..],
        &["sessions"],
        &["session", "7"],
        &["kill", "7"],
        &["drain", "--all"],
        &["undrain", "--all"],
        &["weight", "b", "1"],
        &["explain", "wss://h/"],
        &["reload"],
        &["config"],
        &["log-level"],
    ] {
        let args: Vec<&str> = [&["ctl", "--json"][..], args].concat();
        let output = FakeControlServer::new(vec![line.into()]).run(&args);
        assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), line, ""));
    }
    let fault = "{\"error\":{\"kind\":\"not_found\",\"message\":\"no tunnel 7\"}}\n";
    let output = FakeControlServer::new(vec![fault.into()]).run(&["ctl", "--json", "session", "7"]);
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(1), fault, ""));
    // A selection drops rows, not fields of a row.
    let rows = json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(1, 10), row(2, 4096)]}});
    let output =
        run_with_response(&["ctl", "sessions", "--json", "--sort", "bytes", "--limit", "1"], rows);
    let read: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(read, json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(2, 4096)]}}));
}

#[test]
fn drain_says_where_new_tunnels_go() {
    for (args, response, expected) in [
        (
            &["drain", "--all"][..],
            json!({"sessions": 12, "window_ms": 30_000, "deadline_ms": 90_000, "aborted": null,
                "new_tunnels": "rejected"}),
            "closing 12 tunnels over 30s; those left after 90s are aborted; new tunnels are rejected until \
             `tidegate ctl undrain --all`\n",
        ),
        (
            &["drain", "--all", "--wait"],
            json!({"sessions": 12, "window_ms": 30_000, "deadline_ms": 60_000, "aborted": 1}),
            "12 tunnels drained, 1 aborted\n",
        ),
        (
            &["drain", "--backend", "b", "--wait"],
            json!({"sessions": 3, "window_ms": 1, "deadline_ms": 2, "aborted": 0,
                "new_tunnels": "elsewhere", "rejecting_routes": []}),
            "3 tunnels drained, 0 aborted; new tunnels go to the other backends until \
             `tidegate ctl undrain --backend b`\n",
        ),
        (
            &["drain", "--backend", "b"],
            json!({"sessions": 0, "window_ms": 1, "deadline_ms": 2, "aborted": null,
                "new_tunnels": "elsewhere", "rejecting_routes": ["x", "y"]}),
            "no open tunnel matches; new tunnels go to the other backends, and are rejected on routes without any \
             (x, y), until `tidegate ctl undrain --backend b`\n",
        ),
        (
            &["drain", "--older", "1h"],
            json!({"sessions": 0, "window_ms": 1000, "deadline_ms": 2000, "aborted": null}),
            "no open tunnel matches\n",
        ),
    ] {
        let args: Vec<&str> = ["ctl"].iter().chain(args).copied().collect();
        assert_eq!(run_with_response(&args, json!({"ok": response})).out, expected, "{args:?}");
    }
}

#[test]
fn status_shows_canaries_names_and_lost_lines() {
    let backend = |id: &str, canary: bool, problem: Value| {
        json!({"id": id, "name": null, "state": "up", "problem": problem, "drained": false, "canary": canary,
            "backup": false, "share": null, "expected_share": if canary { 0.05 } else { 0.95 }, "tunnels": 0,
            "opened": 0, "connect_failures": 0})
    };
    let names = ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"];
    let status = json!({"ok": {
        "now": 1000.0, "log_lines_lost": 525,
        "log_losses": [{"to": "/var/log/a.log", "lines": 525, "first": 880.0, "last": 997.0, "error": "no space"}],
        "certificates": [{"name": "a.example", "names": names, "not_after": 87_400, "order": null}],
        "pools": [{"route": "chat", "pool": "chat", "canary_share": "5%", "names": [], "backends": [
            backend("one", false, Value::Null), backend("two", true, "connection refused".into())]}],
    }});
    let output = run_with_response(&["ctl", "status"], status).out;
    for line in [
        "log            525 lines to /var/log/a.log lost, the first 2m00s ago, the last 3s ago: no space",
        "certificate    a.example, b.example, c.example, d.example and 2 more, valid for 1d00h",
    ] {
        assert!(output.lines().any(|found| found == line), "{line}: {output}");
    }
    for words in
        ["chat (pool chat) (canaries 5%)", "up (connection refused), canary", " 95%", " 5%"]
    {
        assert!(output.contains(words), "{words}: {output}");
    }
}

#[test]
fn explanation_that_depends_on_something_says_so() {
    let step = |assumption: Value| {
        json!({"check": "listener", "result": "none on port 80", "key": null,
        "passed": true, "assumption": assumption})
    };
    let run = |assumption: Value| {
        let steps = [step(assumption)];
        let explanation =
            json!({"ok": {"steps": steps, "admitted": true, "status": null, "reason": null}});
        run_with_response(&["ctl", "explain", "ws://a/"], explanation).out
    };
    let output = run("another proxy forwards port 80".into());
    assert!(output.contains("listener  ??  none on port 80"), "{output}");
    assert!(
        output.ends_with("=> the handshake would be admitted if another proxy forwards port 80\n"),
        "{output}"
    );
    assert!(run(Value::Null).ends_with("=> the handshake would be admitted\n"));
}
