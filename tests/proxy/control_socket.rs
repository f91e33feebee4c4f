//! The control socket itself: whose it is, who may use it, and what bad requests get (7.AD).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::control::{CONTROL, next};
use crate::support::{BASE, Proxy, Stage, get, of_another_user, route, soon};

async fn stage() -> Stage {
    Stage::with(CONTROL).await
}

#[tokio::test]
async fn it_is_its_owner_s_alone_and_gone_with_the_process() {
    let mut stage = stage().await;
    let path = stage.proxy.control();
    let there = fs::symlink_metadata(&path).unwrap();
    assert_eq!(there.mode() & 0o7777, 0o600);
    assert_eq!(stage.proxy.order(json!({"ask": "status"})).await["state"], "running");
    stage.proxy.signal(Signal::TERM);
    assert_eq!(stage.proxy.exit().await, Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn ad02_other_users_are_refused_even_where_the_file_lets_them_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED ad02: to be another user takes root");
        return;
    }
    let stage = stage().await;
    let path = stage.proxy.control();
    // A careless chmod, of the socket and of the folder on the way.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(stage.proxy.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut client, mut backend) = stage.open().await;
    let mut kill = of_another_user(stage.proxy.folder());
    kill.args(["ctl", "--socket"]).arg(&path).args(["kill", "--all"]);
    let told = tokio::task::spawn_blocking(move || kill.output().unwrap());
    let told = soon("the other user", told).await.unwrap();
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(said.contains("only root and the user that tidegate runs as"), "{said}");
    assert_eq!(told.status.code(), Some(1));
    let refused = stage.proxy.record("a refusal", |r| r["uid"] == 65534).await;
    assert_eq!(refused["level"], "WARN");
    crate::support::lives(&mut client, &mut backend).await;
}

#[tokio::test]
async fn ad03_slow_huge_and_garbage_requests_get_a_fault_and_hold_up_nobody() {
    let stage = stage().await;
    let proxy = &stage.proxy;
    for garbage in
        [&b""[..], b"GET / HTTP/1.1", b"{}", b"{\"ask\":\"explode\"}", b"\xff\x00", b"[["]
    {
        let said = proxy.ask_all(garbage).await;
        assert!(said.contains("\"bad_request\""), "{garbage:?}: {said}");
    }
    let huge = vec![b' '; 2 << 20];
    let said = proxy.ask_all(&huge).await;
    assert!(said.is_empty() || said.contains("longer than 1048576 bytes"), "{said}");
    // One that says nothing is told so after two seconds; meanwhile others are served.
    let mut silent = UnixStream::connect(proxy.control()).await.unwrap();
    silent.write_all(b"{\"ask\":").await.unwrap();
    proxy.order(json!({"ask": "status"})).await;
    let mut said = String::new();
    soon("the end of patience", silent.read_to_string(&mut said)).await.unwrap();
    assert!(said.contains("within 2s"), "{said}");
}

#[tokio::test]
async fn ad03_who_comes_beyond_the_few_is_told_to_come_again() {
    let stage = stage().await;
    let (mut tunnels, mut tails) = (Vec::new(), Vec::new());
    for session in 1..=32 {
        tunnels.push(stage.open().await);
        let tail = json!({"ask": "tail", "session": session}).to_string();
        tails.push(stage.proxy.ask(tail.as_bytes()).await);
    }
    tunnels.push(stage.open().await);
    let told = soon("all places to be taken", async {
        loop {
            // One that is let in, because not all of those above were read, says nothing.
            let mut tail = stage.proxy.ask(b"{\"ask\":\"tail\",\"session\":33}").await;
            let told = tokio::time::timeout(Duration::from_millis(200), next(&mut tail)).await;
            if let Ok(Some(told)) = told {
                break told;
            }
        }
    })
    .await;
    assert_eq!(told["fault"]["kind"], "busy", "{told}");
    // Those who wait keep no short order out.
    assert_eq!(stage.proxy.order(json!({"ask": "status"})).await["state"], "running");
    drop((tunnels, tails));
}

#[tokio::test]
async fn ad01_nothing_that_changes_anything_is_asked_for_over_tcp() {
    let stage = stage().await;
    let (mut client, mut backend) = stage.open().await;
    for path in ["/kill", "/drain", "/reload", "/sessions", "/control", "/config"] {
        let (answer, _) = get(stage.proxy.admin().await, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let mut admin = tokio::net::TcpStream::connect(stage.proxy.admin().await).await.unwrap();
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        admin.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        soon("an answer", admin.read_to_string(&mut said)).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 405"), "{said}");
    }
    crate::support::lives(&mut client, &mut backend).await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced_and_another_s_file_is_not() {
    let stage = Stage::with("").await;
    let config = format!("{BASE}{}{CONTROL}", route(&[stage.door.address()], ""));
    let folder = stage.proxy.folder();
    drop(UnixListener::bind(folder.join("control.sock")).unwrap());
    assert!(folder.join("control.sock").exists(), "left behind");
    let socket = folder.join("control.sock");
    let text = config.replace("\"control.sock\"", &format!("{:?}", socket.display().to_string()));
    let proxy = Proxy::start_bare(&text).await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"{\"ask\":\"status\"}\n").await.unwrap();
    let mut said = String::new();
    soon("an answer", stream.read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("{\"ok\":"), "{said}");
    drop(proxy);

    let mut refused = Proxy::spawn(&text.replace("control.sock", "chain.pem"), &[]);
    assert_eq!(refused.exit().await, Some(1));
    let fits = |r: &serde_json::Value| r.as_str().is_some_and(|r| r.contains("cannot take orders"));
    let told = refused.record("why", fits).await;
    assert!(told.as_str().unwrap().contains("control.socket"), "{told}");
}

#[tokio::test]
async fn a_socket_of_a_living_process_is_not_taken_from_it() {
    let stage = stage().await;
    let socket = stage.proxy.control().display().to_string();
    let text = format!("{BASE}{}", route(&[stage.door.address()], ""));
    let mut other = Proxy::spawn(&format!("{text}[control]\nsocket = {socket:?}\n"), &[]);
    assert_eq!(other.exit().await, Some(1));
    let fits = |r: &serde_json::Value| {
        r.as_str().is_some_and(|r| r.contains("another process takes orders there"))
    };
    other.record("why", fits).await;
    assert_eq!(stage.proxy.order(json!({"ask": "status"})).await["state"], "running");
}
