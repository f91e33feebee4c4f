//! `tidegate ctl` with a running proxy.

use super::*;

/// Runs the program without blocking the test.
async fn run_unblocked(proxy: &Proxy, args: &[&str]) -> CliOutput {
    let (socket, args) = (proxy.control_socket(), args.join("\n"));
    let output = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.split('\n').collect();
        run_cli(&socket, &[&["ctl"][..], &args].concat())
    });
    within_timeout("a response", output).await.unwrap()
}

/// Runs the program, which must succeed; returns its output.
async fn run_ok(proxy: &Proxy, args: &[&str]) -> String {
    let output = run_unblocked(proxy, args).await;
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""), "{args:?}: {}", output.out);
    output.out
}

#[tokio::test]
async fn read_commands_work_on_a_live_proxy() {
    let bed = TestBed::with(CONTROL).await;
    let proxy = &bed.proxy;
    assert_eq!(run_ok(proxy, &["sessions"]).await, "no tunnel is open\n");
    let (mut client, mut backend) = bed.open_from([127, 0, 9, 1]).await;
    wait_until_client_data_processed(&mut client, &mut backend).await;
    let _other = bed.open_from([127, 0, 9, 2]).await;
    let id = bed.backend.address().to_string();
    let status = run_ok(proxy, &["status"]).await;
    assert!(
        status.lines().any(|line| line.starts_with("tunnels        2 open of at most ")),
        "{status}"
    );
    let row: Vec<&str> = status.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["all", &id, "up", "2"], "{status}");
    for args in [
        &["sessions", "--client", "127.0.9.1"][..],
        &["sessions", "--sort", "rate", "--limit", "1"],
        &["sessions", "--sort", "bytes", "--limit", "1", "--route", "all", "--backend", &id],
    ] {
        let list = run_ok(proxy, args).await;
        let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..4], ["1", "127.0.9.1", "all", &id], "{args:?}: {list}");
    }
    assert_eq!(
        run_ok(proxy, &["sessions", "--older", "1h"]).await,
        "none of the 2 open tunnels matches\n"
    );
    let one = run_ok(proxy, &["session", "1"]).await;
    assert!(one.contains("\nclient           127.0.9.1\n"), "{one}");
    let json: Value = serde_json::from_str(&run_ok(proxy, &["sessions", "--json"]).await).unwrap();
    assert_eq!(json["ok"]["open"], 2);
    let port = proxy.address("plain").await.port();
    let url = format!("ws://localhost:{port}/ws");
    let explained = run_ok(proxy, &["explain", &url, "--address", "192.0.2.7"]).await;
    // The file has port 0.
    let end = format!("=> the handshake would be admitted if another proxy forwards port {port}\n");
    assert!(explained.contains(&id) && explained.ends_with(&end), "{explained}");
    for (args, hint) in [
        (&["session", "99"][..], "99"),
        (&["kill", "99"], "99"),
        (&["tail", "99"], "99"),
        (&["sessions", "--route", "nowhere"], "nowhere"),
        (&["weight", "missing", "2"], "missing"),
        (&["undrain", "--backend", "missing"], "missing"),
    ] {
        let output = run_unblocked(proxy, args).await;
        assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{args:?}");
        assert!(
            output.err.starts_with("tidegate: ") && output.err.contains(hint),
            "{}",
            output.err
        );
    }
}

#[tokio::test]
async fn write_commands_work_on_a_live_proxy() {
    let bed = TestBed::with(CONTROL).await;
    let proxy = &bed.proxy;
    let id = bed.backend.address().to_string();
    let (mut client, mut backend) = bed.open().await;
    let (mut second, second_backend) = bed.open().await;
    let weight = run_ok(proxy, &["weight", &id, "5"]).await;
    assert_eq!(weight, "weight 5 on 1 route\n");
    assert_eq!(run_ok(proxy, &["weight", &id, "file"]).await, "weight 1 on 1 route\n");
    let kill = ["kill", "2", "--code", "4003", "--reason", "against the rules"];
    assert_eq!(run_ok(proxy, &kill).await, "closing 1 tunnel\n");
    let close = wire::read_past_pings(&mut second).await.unwrap();
    assert_eq!((close.code(), &close.payload[2..]), (4003, &b"against the rules"[..]));
    drop((second, second_backend));
    bed.tunnel_end(2).await;
    assert_relays(&mut client, &mut backend).await;
    let mut tail = command(&["ctl", "tail", "1", "--socket"])
        .arg(proxy.control_socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut frames = BufReader::new(tail.stdout.take().unwrap());
    let mut first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        frames.read_line(&mut line).unwrap();
        (line, frames)
    });
    // The first output shows whether the tail has started.
    let (line, mut frames) = loop {
        wait_until_client_data_processed(&mut client, &mut backend).await;
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
    let (output, code) = tokio::join!(run_ok(proxy, &drain), leave);
    let words = "1 tunnel drained, 0 aborted; new tunnels are rejected, as there is no other backend, until";
    assert_eq!((output, code), (format!("{words} `tidegate ctl undrain --backend {id}`\n"), 1012));
    // A tail ends with its tunnel; its last line says which side closed it.
    let rest = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        frames.read_to_string(&mut rest).unwrap();
        (rest, tail.wait().unwrap().code())
    });
    let (rest, code) = within_timeout("the end of the tail", rest).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(rest.lines().any(|line| line.contains("close") && line.ends_with("1012")), "{rest}");
    let undrain = run_ok(proxy, &["undrain", "--backend", &id]).await;
    assert_eq!(undrain, format!("new tunnels are admitted to backend {id}\n"));
    assert_eq!(run_ok(proxy, &["log-level"]).await, "debug\n");
    assert_eq!(run_ok(proxy, &["log-level", "info"]).await, "info\n");
    let set = run_ok(proxy, &["config", "--changed"]).await;
    let socket = set.lines().find(|line| line.starts_with("control.socket ")).unwrap();
    assert!(socket.ends_with("\"control.sock\"") && socket.contains(" line "), "{socket}");
    assert!(!set.contains(" default "), "{set}");
    let reload = run_ok(proxy, &["reload", "--wait"]).await;
    assert_eq!(reload, "reloaded; configuration 2 is now active: nothing changed\n");
    proxy.rewrite(&format!("{}\n[limits]\nidle = 30\n", proxy.config()));
    let output = run_unblocked(proxy, &["reload", "--wait"]).await;
    assert_eq!(output.code, Some(78), "{}", output.err);
    assert!(output.err.contains("limits.idle: 30"), "{}", output.err);
}
