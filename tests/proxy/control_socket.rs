//! The control socket itself: owner, permissions, and errors for invalid requests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::control::{CONTROL, next_line};
use crate::support::{BASE, Proxy, TestBed, get, other_user, route, within_timeout};

async fn bed() -> TestBed {
    TestBed::with(CONTROL).await
}

#[tokio::test]
async fn socket_is_private_and_removed_at_exit() {
    let mut bed = bed().await;
    let path = bed.proxy.control_socket();
    let there = fs::symlink_metadata(&path).unwrap();
    assert_eq!(there.mode() & 0o7777, 0o600);
    assert_eq!(bed.proxy.command(json!({"command": "status"})).await["state"], "running");
    bed.proxy.signal(Signal::TERM);
    assert_eq!(bed.proxy.exit().await, Some(0));
    assert!(!path.exists());
}

// Requirements: AD02.
#[tokio::test]
async fn other_users_are_rejected_despite_file_mode() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED ad02: to be another user takes root");
        return;
    }
    let bed = bed().await;
    let path = bed.proxy.control_socket();
    // A careless chmod of the socket and of its folder.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(bed.proxy.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut client, mut backend) = bed.open().await;
    let mut kill = other_user(bed.proxy.folder());
    kill.args(["ctl", "--socket"]).arg(&path).args(["kill", "--all"]);
    let response = tokio::task::spawn_blocking(move || kill.output().unwrap());
    let response = within_timeout("the other user", response).await.unwrap();
    let reply = String::from_utf8_lossy(&response.stderr).into_owned();
    assert!(reply.contains("only root and the user that tidegate runs as"), "{reply}");
    assert_eq!(response.status.code(), Some(1));
    let refused = bed.proxy.record("a refusal", |r| r["uid"] == 65534).await;
    assert_eq!(refused["level"], "WARN");
    crate::support::assert_relays(&mut client, &mut backend).await;
}

// Requirements: AD03.
#[tokio::test]
async fn bad_requests_fail_without_blocking_others() {
    let bed = bed().await;
    let proxy = &bed.proxy;
    for garbage in
        [&b""[..], b"GET / HTTP/1.1", b"{}", b"{\"command\":\"explode\"}", b"\xff\x00", b"[["]
    {
        let reply = proxy.send_line_and_read(garbage).await;
        assert!(reply.contains("\"bad_request\""), "{garbage:?}: {reply}");
    }
    let huge = vec![b' '; 2 << 20];
    let reply = proxy.send_line_and_read(&huge).await;
    assert!(reply.is_empty() || reply.contains("longer than 1048576 bytes"), "{reply}");
    // A silent connection times out after two seconds; others are served meanwhile.
    let mut silent = UnixStream::connect(proxy.control_socket()).await.unwrap();
    silent.write_all(b"{\"command\":").await.unwrap();
    proxy.command(json!({"command": "status"})).await;
    let mut reply = String::new();
    within_timeout("the end of patience", silent.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.contains("within 2s"), "{reply}");
}

// Requirements: AD03.
#[tokio::test]
async fn excess_connections_get_busy() {
    let bed = bed().await;
    let (mut tunnels, mut tails) = (Vec::new(), Vec::new());
    for session in 1..=32 {
        tunnels.push(bed.open().await);
        let tail = json!({"command": "tail", "session": session}).to_string();
        tails.push(bed.proxy.send_line(tail.as_bytes()).await);
    }
    tunnels.push(bed.open().await);
    let response = within_timeout("all places to be taken", async {
        loop {
            // A connection accepted because some of those above were never read stays silent.
            let mut tail = bed.proxy.send_line(b"{\"command\":\"tail\",\"session\":33}").await;
            let response =
                tokio::time::timeout(Duration::from_millis(200), next_line(&mut tail)).await;
            if let Ok(Some(response)) = response {
                break response;
            }
        }
    })
    .await;
    assert_eq!(response["error"]["kind"], "busy", "{response}");
    // Waiting commands do not block short ones.
    assert_eq!(bed.proxy.command(json!({"command": "status"})).await["state"], "running");
    drop((tunnels, tails));
}

// Requirements: AD01.
#[tokio::test]
async fn tcp_admin_changes_nothing() {
    let bed = bed().await;
    let (mut client, mut backend) = bed.open().await;
    for path in ["/kill", "/drain", "/reload", "/sessions", "/control", "/config"] {
        let (response, _) = get(bed.proxy.admin().await, path).await;
        assert_eq!(response.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let mut admin = tokio::net::TcpStream::connect(bed.proxy.admin().await).await.unwrap();
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        admin.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        within_timeout("a response", admin.read_to_string(&mut reply)).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 405"), "{reply}");
    }
    crate::support::assert_relays(&mut client, &mut backend).await;
}

#[tokio::test]
async fn stale_socket_is_replaced_other_files_kept() {
    let bed = TestBed::with("").await;
    let config = format!("{BASE}{}{CONTROL}", route(&[bed.backend.address()], ""));
    let folder = bed.proxy.folder();
    let socket = folder.join("stale.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "not removed");
    let text = config.replace("\"control.sock\"", &format!("{:?}", socket.display().to_string()));
    let proxy = Proxy::start_bare(&text).await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"{\"command\":\"status\"}\n").await.unwrap();
    let mut reply = String::new();
    within_timeout("a response", stream.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("{\"ok\":"), "{reply}");
    drop(proxy);

    let mut refused = Proxy::spawn(&text.replace("stale.sock", "chain.pem"), &[]);
    assert_eq!(refused.exit().await, Some(1));
    let fits = |r: &serde_json::Value| {
        r.as_str().is_some_and(|r| r.contains("cannot create the control socket"))
    };
    let response = refused.record("why", fits).await;
    assert!(response.as_str().unwrap().contains("control.socket"), "{response}");
}

/// The folders `/run` of these processes are their own.
#[tokio::test]
async fn default_socket_needs_a_folder_of_this_user() {
    let is_permitted = Command::new("unshare").args(["--mount", "true"]).status();
    if !is_permitted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: creating a mount namespace is not permitted here");
        return;
    }
    let bed = TestBed::with("").await;
    let config = format!("{BASE}{}", route(&[bed.backend.address()], ""));
    let start = |before: &str| {
        let script = format!("{before} && unset RUNTIME_DIRECTORY && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        Proxy::spawn_by(command, &config)
    };
    for (before, cause) in [
        ("mount -t tmpfs -o ro none /run", "Read-only file system (os error 30)"),
        (
            "mount -t tmpfs none /run && mkdir /run/tidegate && chown 65534 /run/tidegate",
            "the folder belongs to another user",
        ),
    ] {
        let proxy = start(before);
        let none = "no control socket, so tidegate ctl cannot reach this process: set control.socket to \
                    a path, or $RUNTIME_DIRECTORY to a folder";
        let record = proxy.record("why", |r| r["message"] == none).await;
        let error = "cannot create the control socket /run/tidegate/control.sock: ";
        let expected = format!("{error}{cause} (control.socket)");
        assert_eq!((&record["error"], &record["level"]), (&expected.into(), &"WARN".into()));
        proxy.record("serving", |r| r["message"] == "serving").await;
    }
    let proxy = start("mount -t tmpfs none /run");
    proxy.record("the path", |r| r["path"] == "/run/tidegate/control.sock").await;
    let folder = PathBuf::from(format!("/proc/{}/root/run/tidegate", proxy.pid()));
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o750);
    let mut stream = UnixStream::connect(folder.join("control.sock")).await.unwrap();
    stream.write_all(b"{\"command\":\"status\"}\n").await.unwrap();
    let mut reply = String::new();
    within_timeout("a response", stream.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("{\"ok\":"), "{reply}");
}

#[tokio::test]
async fn socket_in_use_is_not_taken_over() {
    let bed = bed().await;
    let socket = bed.proxy.control_socket().display().to_string();
    let text = format!("{BASE}{}", route(&[bed.backend.address()], ""));
    let mut other = Proxy::spawn(&format!("{text}[control]\nsocket = {socket:?}\n"), &[]);
    assert_eq!(other.exit().await, Some(1));
    let fits = |r: &serde_json::Value| {
        r.as_str().is_some_and(|r| r.contains("another process is listening there"))
    };
    other.record("why", fits).await;
    assert_eq!(bed.proxy.command(json!({"command": "status"})).await["state"], "running");
}
