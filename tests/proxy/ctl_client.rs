//! `tidegate ctl` beside a process that answers what a test has it answer: what goes over the wire,
//! what people and programs read, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::control::CONTROL;
use crate::support::{
    Folder, Proxy, Stage, TIDEGATE, lives, nudge, of_another_user, soon, wire, write_certificate,
};

/// Answers so many requests, each with one of these texts, and then no more.
struct Fake {
    folder: Folder,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.path().join("control.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                // Whoever has read enough hangs up.
                let _ = stream.write_all(&answer);
            }
        });
        Self { folder, asked }
    }

    /// What is said to these words, with this socket.
    fn says(&self, words: &[&str]) -> Said {
        say(&self.folder.path().join("control.sock"), words)
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", TIDEGATE]).args(words).env_remove("RUNTIME_DIRECTORY");
    command
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said =
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    for text in [&said.out, &said.err] {
        assert!(!text.contains('\x1b') && !text.contains("panicked"), "{text}");
    }
    said
}

fn say(socket: &Path, words: &[&str]) -> Said {
    said(command(words).arg("--socket").arg(socket))
}

/// What is said when this is answered.
fn told(words: &[&str], answer: Value) -> Said {
    Fake::new(vec![format!("{answer}\n").into_bytes()]).says(words)
}

/// What is asked by these words.
fn asked(words: &[&str]) -> Value {
    let fake = Fake::new(vec![b"{\"fault\":{\"kind\":\"refused\",\"message\":\"no\"}}\n".to_vec()]);
    let said = fake.says(words);
    assert_eq!((said.code, said.err.as_str()), (Some(1), "tidegate: no\n"), "{words:?}");
    let asked = fake.asked();
    assert_eq!(asked.len(), 1, "{words:?}");
    asked[0].clone()
}

fn which(given: Value) -> Value {
    let mut of = json!({
        "sessions": [], "client": null, "route": null, "backend": null, "older_ms": null,
    });
    of.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    of
}

#[test]
fn every_command_that_looks_or_closes_asks_what_it_says() {
    let nothing = json!({"code": null, "reason": null});
    let slow = json!({"window_ms": null, "per_second": null, "deadline_ms": null});
    for (words, expected) in [
        (&["status"][..], json!({"ask": "status"})),
        (&["sessions"], json!({"ask": "sessions", "of": which(json!({}))})),
        (
            &["sessions", "--client", "::1", "--route", "chat", "--backend", "b", "--older", "15m"],
            json!({"ask": "sessions", "of": which(json!({
                "client": "::1", "route": "chat", "backend": "b", "older_ms": 900_000,
            }))}),
        ),
        (&["session", "7"], json!({"ask": "session", "session": 7})),
        (
            &["kill", "7", "8"],
            json!({
                "ask": "kill", "of": which(json!({"sessions": [7, 8]})), "all": false,
                "words": nothing,
            }),
        ),
        (
            &["kill", "--all", "--code", "4003", "--reason", "banned"],
            json!({
                "ask": "kill", "of": which(json!({})), "all": true,
                "words": {"code": 4003, "reason": "banned"},
            }),
        ),
        (
            &["drain", "--all"],
            json!({
                "ask": "drain", "of": which(json!({})), "all": true, "pace": slow,
                "words": nothing, "wait": false,
            }),
        ),
        (
            &[
                "drain",
                "--backend",
                "b",
                "--window",
                "30s",
                "--rate",
                "100/s",
                "--deadline",
                "1m",
                "--code",
                "1001",
                "--reason",
                "bye",
                "--wait",
            ],
            json!({
                "ask": "drain", "of": which(json!({"backend": "b"})), "all": false,
                "pace": {"window_ms": 30_000, "per_second": 100, "deadline_ms": 60_000},
                "words": {"code": 1001, "reason": "bye"}, "wait": true,
            }),
        ),
    ] {
        asks(words, &expected);
    }
}

#[test]
fn every_command_that_steers_asks_what_it_says() {
    for (words, expected) in [
        (&["undrain", "--all"][..], json!({"ask": "undrain", "place": "all"})),
        (&["undrain", "--route", "r"], json!({"ask": "undrain", "place": {"route": "r"}})),
        (&["undrain", "--backend", "b"], json!({"ask": "undrain", "place": {"backend": "b"}})),
        (
            &["weight", "b", "5"],
            json!({"ask": "weight", "backend": "b", "route": null, "weight": 5}),
        ),
        (
            &["weight", "b", "file", "--route", "r"],
            json!({"ask": "weight", "backend": "b", "route": "r", "weight": null}),
        ),
        (&["tail", "7"], json!({"ask": "tail", "session": 7})),
        (
            &["explain", "wss://h/ws"],
            json!({"ask": "explain", "url": "wss://h/ws", "origin": null, "address": null}),
        ),
        (
            &["explain", "wss://h/ws", "--origin", "https://o", "--address", "2001:db8::1"],
            json!({
                "ask": "explain", "url": "wss://h/ws", "origin": "https://o",
                "address": "2001:db8::1",
            }),
        ),
        (&["reload"], json!({"ask": "reload"})),
        (&["reload", "--wait"], json!({"ask": "reload"})),
        (&["config", "--changed"], json!({"ask": "config"})),
        (&["log-level"], json!({"ask": "log_level", "level": null})),
        (&["log-level", "debug"], json!({"ask": "log_level", "level": "debug"})),
    ] {
        asks(words, &expected);
    }
}

fn asks(words: &[&str], expected: &Value) {
    let words: Vec<&str> = [&["ctl"][..], words].concat();
    assert_eq!(asked(&words), *expected, "{words:?}");
}

fn row(session: u64, up_bytes: u64) -> Value {
    json!({
        "session": session, "client": "192.0.2.7", "listener": "tls", "route": "chat",
        "backend": "10.0.0.7:9001", "age_ms": 192_000, "up_bytes": up_bytes, "down_bytes": 5,
        "up_messages": 3, "down_messages": 4, "client_rtt_ms": 12.3, "backend_rtt_ms": null,
        "closing": session == 2,
    })
}

#[test]
fn tables_are_for_people() {
    let rows = json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(1, 10), row(2, 4096)]}});
    let said = told(&["ctl", "sessions", "--sort", "bytes"], rows.clone());
    let expected = "\
ID  CLIENT     ROUTE  BACKEND          AGE      UP  DOWN  MSGS UP  MSGS DOWN   RTT  BACKEND RTT
 2  192.0.2.7  chat   10.0.0.7:9001  3m12s  4.0KiB    5B        3          4  12ms            -  closing
 1  192.0.2.7  chat   10.0.0.7:9001  3m12s     10B    5B        3          4  12ms            -
2 of 9 open tunnels
";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), expected, ""));
    let said = told(&["ctl", "sessions", "--limit", "1"], rows);
    assert!(
        said.out.ends_with("1 of 9 open tunnels\n") && said.out.contains("\n 1 "),
        "{}",
        said.out
    );
    for (open, expected) in [(0, "no tunnel is open\n"), (9, "none of the 9 open tunnels fits\n")] {
        let none = json!({"ok": {"now": 5.0, "open": open, "sessions": []}});
        assert_eq!(told(&["ctl", "sessions"], none).out, expected);
    }
    let mut detail = row(7, 1);
    detail.as_object_mut().unwrap().extend(
        json!({
            "address": "192.0.2.7:4711", "known_by": "forwarded", "tls": "1.3 X",
            "host": "chat.example.com", "target": "/ws?token=***", "user_agent": "a\u{1b}[2Jb",
            "request_id": null, "subprotocol": null, "generation": 3, "dial_ms": 0.5,
            "client_delayed_ms": 0, "backend_delayed_ms": 1500,
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let said = told(&["ctl", "session", "7"], json!({"ok": detail}));
    for line in [
        "state            open, 3m12s old",
        "address          192.0.2.7:4711 (known by forwarded)",
        "backend          10.0.0.7:9001 (answered in 0.50ms)",
        "user agent       a\\u{1b}[2Jb",
        "up               1B in 3 messages",
        "backend delayed  1s",
    ] {
        assert!(said.out.lines().any(|said| said == line), "{line}: {}", said.out);
    }
}

#[test]
fn rates_are_made_of_two_lists() {
    let list = |now: f64, rows: &[Value]| {
        format!("{}\n", json!({"ok": {"now": now, "open": 2, "sessions": rows}})).into_bytes()
    };
    let before = list(100.0, &[row(1, 10), row(2, 4096)]);
    let fake = Fake::new(vec![before, list(102.0, &[row(1, 2058), row(2, 4096)])]);
    let said = fake.says(&["ctl", "sessions", "--sort", "rate"]);
    let first: Vec<&str> = said.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[5], first[6]), ("1", "1.0KiB/s", "0B/s"), "{}", said.out);
    assert_eq!(fake.asked().len(), 2);
}

#[test]
fn what_was_done_is_a_sentence() {
    for (words, answer, expected) in [
        (&["kill", "--all"][..], json!({"sessions": 3}), "3 tunnels were told to close\n"),
        (&["kill", "--older", "1h"], json!({"sessions": 0}), "no open tunnel fits\n"),
        (
            &["drain", "--all"],
            json!({"sessions": 12, "window_ms": 30_000, "deadline_ms": 90_000, "cut": null}),
            "12 tunnels will be closed over 30s; what is left after 90s is cut; no new ones until undrain\n",
        ),
        (
            &["drain", "--all", "--wait"],
            json!({"sessions": 12, "window_ms": 30_000, "deadline_ms": 60_000, "cut": 1}),
            "12 tunnels drained, 1 of them cut; no new ones until undrain\n",
        ),
        (
            &["drain", "--older", "1h"],
            json!({"sessions": 0, "window_ms": 1000, "deadline_ms": 2000, "cut": null}),
            "no open tunnel fits\n",
        ),
        (
            &["undrain", "--route", "chat"],
            json!({"route": "chat"}),
            "new tunnels are let in again on route chat\n",
        ),
        (&["undrain", "--all"], json!("all"), "new tunnels are let in again everywhere\n"),
        (&["weight", "b", "5"], json!({"routes": 2, "weight": 5}), "its weight is 5 on 2 routes\n"),
        (&["log-level", "warn"], json!({"level": "warn"}), "warn\n"),
        (
            &["reload"],
            json!({"generation": 4, "changes": []}),
            "configuration 4 is in force: nothing changed\n",
        ),
        (
            &["reload", "--wait"],
            json!({"generation": 4, "changes": [{
                "part": "route", "name": "chat", "what": "changed", "tunnels": 12,
                "effect": "live tunnels keep what they have", "keys": [
                    {"key": "route[0].limits.idle", "before": "\"1h\"", "after": "\"2h\""},
                    {"key": "route[0].subprotocols", "before": null, "after": "[]"},
                ],
            }]}),
            "configuration 4 is in force: 1 change\n\
             route chat: changed, 12 live tunnels; live tunnels keep what they have\n    \
                 route[0].limits.idle: \"1h\" -> \"2h\"\n    \
                 route[0].subprotocols: (nothing) -> []\n",
        ),
    ] {
        tells(words, &answer, expected);
    }
}

#[test]
fn steps_and_keys_are_lists() {
    for (words, answer, expected) in [
        (
            &["explain", "wss://h/"][..],
            json!({"admitted": false, "status": 403, "reason": "origin_not_allowed", "steps": [
                {"question": "route", "answer": "chat", "key": null, "passes": true},
                {
                    "question": "origin", "answer": "https://o is not in the list",
                    "key": "route[0].origins = []", "passes": false,
                },
            ]}),
            "QUESTION      ANSWER\n\
             route     ok  chat\n\
             origin    NO  https://o is not in the list  (route[0].origins = [])\n\
             => it would be refused with 403: origin_not_allowed\n",
        ),
        (
            &["config", "--changed"],
            json!({"generation": 4, "file": "/etc/tidegate/proxy.toml", "keys": [
                {"key": "limits.idle", "value": "\"1h\"", "line": null, "from": "default"},
                {"key": "log.level", "value": "\"warn\"", "line": 12, "from": null},
                {"key": "route[0].limits.idle", "value": "\"1h\"", "line": null, "from": "limits.idle"},
                {"key": "backend.weight", "value": "3", "line": null, "from": "ctl"},
            ]}),
            "configuration 4, of /etc/tidegate/proxy.toml\n\n\
             KEY             FROM     VALUE\n\
             log.level       line 12  \"warn\"\n\
             backend.weight  ctl      3\n",
        ),
    ] {
        tells(words, &answer, expected);
    }
}

fn tells(words: &[&str], answer: &Value, expected: &str) {
    let words: Vec<&str> = [&["ctl"][..], words].concat();
    let said = told(&words, json!({ "ok": answer }));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), expected, ""));
}

#[test]
fn frames_are_told_as_they_come_until_the_tunnel_ends() {
    let frame = |missed: u64, code: Value| {
        json!({"ok": {
            "at": 1_735_689_599.25, "from": "backend", "own": false, "opcode": "close",
            "fin": true, "compressed": false, "length": 2, "code": code, "missed": missed,
        }})
    };
    let lines = format!("{}\n{}\n", frame(0, Value::Null), frame(5, 1000.into()));
    let said = Fake::new(vec![lines.clone().into_bytes()]).says(&["ctl", "tail", "7"]);
    let line = "23:59:59.250  backend -> client    close              2B";
    assert_eq!(said.out, format!("{line}\n... 5 frames not shown\n{line}  1000\n"));
    let said = Fake::new(vec![lines.clone().into_bytes()]).says(&["ctl", "tail", "7", "--json"]);
    assert_eq!((said.code, said.out), (Some(0), lines));
}

#[test]
fn programs_read_the_answer_as_it_came() {
    // Spaces, order, and what this version does not know.
    let line = "{ \"ok\":{\"new\":1, \"anything\":[true]} }\n";
    for words in [
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
        let words: Vec<&str> = [&["ctl", "--json"][..], words].concat();
        let said = Fake::new(vec![line.into()]).says(&words);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), line, ""));
    }
    let fault = "{\"fault\":{\"kind\":\"not_found\",\"message\":\"no tunnel 7\"}}\n";
    let said = Fake::new(vec![fault.into()]).says(&["ctl", "--json", "session", "7"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(1), fault, ""));
    // What is chosen here leaves rows out, and nothing of a row.
    let rows = json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(1, 10), row(2, 4096)]}});
    let said = told(&["ctl", "sessions", "--json", "--sort", "bytes", "--limit", "1"], rows);
    let read: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(read, json!({"ok": {"now": 5.0, "open": 9, "sessions": [row(2, 4096)]}}));
}

#[test]
fn a_refused_reload_says_every_fault_and_exits_as_check_does() {
    let fault = json!({"fault": {
        "kind": "refused", "message": "the configuration is refused; the one in force stays",
        "faults": ["proxy.toml:3:8: limits.idle: 30 has no unit", "proxy.toml:9:1: unknown key"],
    }});
    let said = told(&["ctl", "reload", "--wait"], fault.clone());
    assert_eq!(said.code, Some(78));
    let expected = "proxy.toml:3:8: limits.idle: 30 has no unit\nproxy.toml:9:1: unknown key\n\
                    tidegate: the configuration is refused; the one in force stays\n";
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", expected));
    let said = told(&["ctl", "reload", "--json"], fault.clone());
    assert_eq!((said.code, said.err.as_str()), (Some(78), ""));
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap(), fault);
    // A process that is leaving is at no fault of the file.
    let fault = json!({"fault": {"kind": "refused", "message": "it is leaving"}});
    assert_eq!(told(&["ctl", "reload"], fault).code, Some(1));
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let endless = vec![b'x'; (64 << 20) + 1];
    for (answer, words) in [
        (b"".to_vec(), "the connection was closed without an answer"),
        (b"{\"ok\":{\"level\":".to_vec(), "the answer broke off in the middle"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the answer cannot be read"),
        (b"{\"ok\":{\"level\":7}}\n".to_vec(), "the answer cannot be read"),
        (b"\xff\xfe\n".to_vec(), "the answer cannot be read"),
        (endless, "an answer of more than 64 MiB is not tidegate's"),
    ] {
        for json in [false, true] {
            let words_given: &[&str] = match json {
                // A program is given whatever is an answer.
                true if answer.ends_with(b"7}}\n") => continue,
                true => &["ctl", "log-level", "--json"],
                false => &["ctl", "log-level"],
            };
            let said = Fake::new(vec![answer.clone()]).says(words_given);
            assert_eq!((said.code, said.out.as_str()), (Some(69), ""), "{}", said.err);
            assert!(said.err.contains(words), "{words}: {}", said.err);
        }
    }
}

#[test]
fn where_nobody_answers_it_says_why() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(at("dead.sock")).unwrap());
    fs::write(at("file"), "").unwrap();
    let long = PathBuf::from(format!("/{}", "x".repeat(200)));
    for (path, words) in [
        (at("none.sock"), "there is no such socket"),
        (at("dead.sock"), "the process that made it is gone"),
        (at("file"), "this is not a socket"),
        (folder.path().to_owned(), "this is not a socket"),
        (long, "no process answers"),
    ] {
        let said = say(&path, &["ctl", "status"]);
        assert_eq!((said.code, said.out.as_str()), (Some(69), ""), "{}", said.err);
        let named = format!("no process answers at {}", path.display());
        assert!(said.err.contains(words) && said.err.contains(&named), "{words}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
    // Without a path it is the service manager's folder, or the shipped unit's.
    let given = format!("{}:/elsewhere", folder.path().display());
    let said = said(command(&["ctl", "status"]).env("RUNTIME_DIRECTORY", given));
    assert!(said.err.contains(&at("control.sock").display().to_string()), "{}", said.err);
}

#[test]
fn a_user_who_may_not_is_told_who_may() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED a user who may not: to be another user takes root");
        return;
    }
    let fake = Fake::new(Vec::new());
    let socket = fake.folder.path().join("control.sock");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(&socket, mode(0o600)).unwrap();
    fs::set_permissions(fake.folder.path(), mode(0o755)).unwrap();
    let mut status = of_another_user(fake.folder.path());
    let output = status.args(["ctl", "status", "--socket"]).arg(socket).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    let expected = "permission denied: only root and the user tidegate runs as may";
    assert!(err.contains(expected), "{err}");
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let socket = Path::new("/nowhere");
    for (words, hint) in [
        (&["kill"][..], "required"),
        (&["kill", "--all", "--route", "r"], "cannot be used"),
        (&["kill", "7", "--code", "99"], "1000..=4999"),
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
        let said = say(socket, &words);
        assert_eq!(said.code, Some(2), "{words:?}: {}", said.err);
        assert!(said.err.contains(hint), "{words:?}: {}", said.err);
    }
    let long = "x".repeat(124);
    let said = say(socket, &["ctl", "kill", "7", "--reason", &long]);
    assert!(said.code == Some(2) && said.err.contains("a Close holds 123"), "{}", said.err);
}

#[test]
fn a_reader_who_leaves_ends_it_quietly() {
    let rows: Vec<Value> = (0..9000).map(|session| row(session, 1)).collect();
    let answer = format!("{}\n", json!({"ok": {"now": 5.0, "open": 9000, "sessions": rows}}));
    for more in [&[][..], &["--json"]] {
        let fake = Fake::new(vec![answer.clone().into_bytes()]);
        let mut child = command(&["ctl", "sessions", "--socket"])
            .arg(fake.folder.path().join("control.sock"))
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

/// A folder with a configuration that is good, but for `more`.
fn house(folder: &Folder, more: &str) -> PathBuf {
    write_certificate(folder.path(), &["localhost"]);
    folder.write(
        "proxy.toml",
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
             [[route]]\nhost = \"localhost\"\norigins = [\"same-origin\"]\n\
             backends = [\"127.0.0.1:9\"]\n{more}"
        ),
    );
    folder.path().join("proxy.toml")
}

#[test]
fn check_tells_what_a_reload_would_change() {
    let answer = json!({"ok": {"generation": 4, "changes": [{
        "part": "backend", "name": "127.0.0.1:8", "what": "removed", "keys": [], "tunnels": 1,
        "effect": "kept",
    }]}});
    let fake = Fake::new(vec![format!("{answer}\n").into_bytes()]);
    let file = house(&fake.folder, "");
    let socket = fake.folder.path().join("control.sock");
    let words = ["check", "--diff", "--config", "proxy.toml", "--socket"];
    let said = said(command(&words).arg(&socket).current_dir(fake.folder.path()));
    let expected = "proxy.toml: good: 1 listener(s), 1 route(s)\n\
                    against configuration 4 in force: 1 change\n\
                    backend 127.0.0.1:8: removed, 1 live tunnel; kept\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), expected, ""));
    let path = fs::canonicalize(&file).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(fake.asked(), [json!({"ask": "diff", "path": path, "text": text})]);
    // For programs, nothing but the answer.
    let file = file.to_str().unwrap();
    let fake = Fake::new(vec![format!("{answer}\n").into_bytes()]);
    let said = fake.says(&["check", "--diff", "--json", "--config", file]);
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap(), answer);
    // With nobody to compare with, the file is still good.
    let said = say(Path::new("/nowhere/control.sock"), &["check", "--diff", "--config", file]);
    assert_eq!(said.code, Some(69));
    assert!(said.out.ends_with("good: 1 listener(s), 1 route(s)\n"), "{}", said.out);
}

#[test]
fn check_asks_nobody_about_a_file_that_is_no_good() {
    let folder = Folder::new();
    let file = house(&folder, "[limits]\nidle = 30\n");
    let file = file.to_str().unwrap();
    let nowhere = Path::new("/nowhere/control.sock");
    let plain = said(&mut command(&["check", "--config", file]));
    let with_diff = say(nowhere, &["check", "--diff", "--config", file]);
    assert_eq!((with_diff.code, &with_diff.err), (Some(78), &plain.err));
    let json = say(nowhere, &["check", "--diff", "--json", "--config", file]);
    let fault: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, json.err.as_str()), (Some(78), ""));
    assert_eq!(fault["fault"]["kind"], "refused");
    assert!(fault["fault"]["faults"][0].as_str().unwrap().contains("limits.idle"), "{fault}");
    // What shows only when certificates are read.
    let file = house(&folder, "");
    folder.write("key.pem", "no key");
    let json = say(nowhere, &["check", "--diff", "--json", "--config", file.to_str().unwrap()]);
    let fault: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json.code, Some(78));
    assert!(
        fault["fault"]["faults"][0].as_str().unwrap().contains("certificate[0].key"),
        "{fault}"
    );
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let folder = Folder::new();
    let said = said(command(&["man"]).arg(folder.path()));
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let page = |name: &str| fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
    let commands = [
        "status",
        "top",
        "sessions",
        "session",
        "kill",
        "drain",
        "undrain",
        "weight",
        "tail",
        "explain",
        "reload",
        "config",
        "log-level",
    ];
    for name in ["tidegate", "tidegate-run", "tidegate-check", "tidegate-demo", "tidegate-ctl"] {
        let page = page(name);
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\""] {
            assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section}");
        }
    }
    for name in commands {
        assert!(page(&format!("tidegate-ctl-{name}")).contains(".SH NAME\ntidegate\\-ctl\\-"));
        for shell in ["bash", "zsh", "fish"] {
            let script = said_of(&["completions", shell]);
            assert!(script.contains(name), "{shell}: {name}");
            assert!(!script.contains("tidegate__subcmd__man"), "{shell}: what is hidden");
        }
    }
    assert_eq!(said_of(&["completions", "bash"]).matches("complete -F").count(), 2);
    let nowhere = said_code(&["man", "/nowhere"]);
    assert_eq!(nowhere, Some(1));
}

fn said_of(words: &[&str]) -> String {
    said(&mut command(words)).out
}

fn said_code(words: &[&str]) -> Option<i32> {
    said(&mut command(words)).code
}

/// What is said to these words by a real process; its test goes on meanwhile.
async fn really(proxy: &Proxy, words: &[&str]) -> Said {
    let (socket, words) = (proxy.control(), words.join("\n"));
    let said = tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = words.split('\n').collect();
        say(&socket, &[&["ctl"][..], &words].concat())
    });
    soon("an answer", said).await.unwrap()
}

/// The same, which must go well.
async fn well(proxy: &Proxy, words: &[&str]) -> String {
    let said = really(proxy, words).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{words:?}: {}", said.out);
    said.out
}

#[tokio::test]
async fn a_real_process_is_looked_at() {
    let stage = Stage::with(CONTROL).await;
    let proxy = &stage.proxy;
    assert_eq!(well(proxy, &["sessions"]).await, "no tunnel is open\n");
    let (mut client, mut backend) = stage.open_from([127, 0, 9, 1]).await;
    nudge(&mut client, &mut backend).await;
    let _other = stage.open_from([127, 0, 9, 2]).await;
    let id = stage.door.address().to_string();
    let status = well(proxy, &["status"]).await;
    assert!(
        status.lines().any(|line| line.starts_with("tunnels        2 open of at most ")),
        "{status}"
    );
    let row: Vec<&str> = status.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["all", &id, "up", "2"], "{status}");
    for words in [
        &["sessions", "--client", "127.0.9.1"][..],
        &["sessions", "--sort", "rate", "--limit", "1"],
        &["sessions", "--sort", "bytes", "--limit", "1", "--route", "all", "--backend", &id],
    ] {
        let list = well(proxy, words).await;
        let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..4], ["1", "127.0.9.1", "all", &id], "{words:?}: {list}");
    }
    assert_eq!(
        well(proxy, &["sessions", "--older", "1h"]).await,
        "none of the 2 open tunnels fits\n"
    );
    let one = well(proxy, &["session", "1"]).await;
    assert!(one.contains("\nclient           127.0.9.1\n"), "{one}");
    let json: Value = serde_json::from_str(&well(proxy, &["sessions", "--json"]).await).unwrap();
    assert_eq!(json["ok"]["open"], 2);
    let port = proxy.address("plain").await.port();
    let url = format!("ws://localhost:{port}/ws");
    let explained = well(proxy, &["explain", &url, "--address", "192.0.2.7"]).await;
    assert!(
        explained.contains(&id) && explained.ends_with("=> it would be let in\n"),
        "{explained}"
    );
    for (words, hint) in [
        (&["session", "99"][..], "99"),
        (&["kill", "99"], "99"),
        (&["tail", "99"], "99"),
        (&["sessions", "--route", "nowhere"], "nowhere"),
        (&["weight", "nobody", "2"], "nobody"),
        (&["undrain", "--backend", "nobody"], "nobody"),
    ] {
        let said = really(proxy, words).await;
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{words:?}");
        assert!(said.err.starts_with("tidegate: ") && said.err.contains(hint), "{}", said.err);
    }
}

#[tokio::test]
async fn a_real_process_does_what_it_is_told() {
    let stage = Stage::with(CONTROL).await;
    let proxy = &stage.proxy;
    let id = stage.door.address().to_string();
    let (mut client, mut backend) = stage.open().await;
    let (mut second, second_backend) = stage.open().await;
    let weight = well(proxy, &["weight", &id, "5"]).await;
    assert_eq!(weight, "its weight is 5 on 1 route\n");
    assert_eq!(well(proxy, &["weight", &id, "file"]).await, "its weight is 1 on 1 route\n");
    let kill = ["kill", "2", "--code", "4003", "--reason", "against the rules"];
    assert_eq!(well(proxy, &kill).await, "1 tunnel was told to close\n");
    let close = wire::read_past_pings(&mut second).await.unwrap();
    assert_eq!((close.code(), &close.payload[2..]), (4003, &b"against the rules"[..]));
    drop((second, second_backend));
    stage.end_of(2).await;
    lives(&mut client, &mut backend).await;
    let mut tail = command(&["ctl", "tail", "1", "--socket"])
        .arg(proxy.control())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut frames = BufReader::new(tail.stdout.take().unwrap());
    let mut first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        frames.read_line(&mut line).unwrap();
        (line, frames)
    });
    // Whether it follows already is seen by what it says.
    let (line, mut frames) = loop {
        nudge(&mut client, &mut backend).await;
        if let Ok(first) = tokio::time::timeout(Duration::from_millis(20), &mut first).await {
            break first.unwrap();
        }
    };
    assert!(line.contains("  backend -> client "), "{line}");
    let drain = ["drain", "--backend", &id, "--window", "1ms", "--deadline", "10s", "--wait"];
    let leave = async {
        let close = wire::read_past_pings(&mut client).await.unwrap();
        drop((client, backend));
        close.code()
    };
    let (said, code) = tokio::join!(well(proxy, &drain), leave);
    assert_eq!(
        (said.as_str(), code),
        ("1 tunnel drained, 0 of them cut; no new ones until undrain\n", 1012)
    );
    // A tail ends with its tunnel; the last it shows is who closed that.
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        frames.read_to_string(&mut rest).unwrap();
        (rest, tail.wait().unwrap().code())
    });
    let (rest, code) = soon("the end of the tail", rest).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(rest.lines().any(|line| line.contains("close") && line.ends_with("1012")), "{rest}");
    let undrain = well(proxy, &["undrain", "--backend", &id]).await;
    assert_eq!(undrain, format!("new tunnels are let in again at backend {id}\n"));
    assert_eq!(well(proxy, &["log-level"]).await, "debug\n");
    assert_eq!(well(proxy, &["log-level", "info"]).await, "info\n");
    let set = well(proxy, &["config", "--changed"]).await;
    let socket = set.lines().find(|line| line.starts_with("control.socket ")).unwrap();
    assert!(socket.ends_with("\"control.sock\"") && socket.contains(" line "), "{socket}");
    assert!(!set.contains(" default "), "{set}");
    let reload = well(proxy, &["reload", "--wait"]).await;
    assert_eq!(reload, "configuration 2 is in force: nothing changed\n");
    proxy.rewrite(&format!("{}\n[limits]\nidle = 30\n", proxy.config()));
    let said = really(proxy, &["reload", "--wait"]).await;
    assert_eq!(said.code, Some(78), "{}", said.err);
    assert!(said.err.contains("limits.idle: 30"), "{}", said.err);
}
