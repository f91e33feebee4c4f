//! `check --diff`, shell completions and man pages.

use super::*;

/// A folder with a configuration that is valid without `more`.
fn write_config(folder: &TempDir, more: &str) -> PathBuf {
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
fn check_diff_shows_reload_changes() {
    let answer = json!({"ok": {"generation": 4, "changes": [{
        "section": "backend", "name": "127.0.0.1:8", "action": "removed", "keys": [], "tunnels": 1,
        "effect": "kept",
    }]}});
    let server = FakeControlServer::new(vec![format!("{answer}\n").into_bytes()]);
    let file = write_config(&server.folder, "");
    let socket = server.folder.path().join("control.sock");
    let args = ["check", "--diff", "--config", "proxy.toml", "--socket"];
    let output = output(command(&args).arg(&socket).current_dir(server.folder.path()));
    let expected = "proxy.toml: valid: 1 listener(s), 1 route(s)\n\
                    compared with the active configuration, number 4: 1 change\n\
                    backend 127.0.0.1:8: removed, 1 open tunnel; kept\n";
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (Some(0), expected, ""));
    let path = fs::canonicalize(&file).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(server.requests(), [json!({"command": "diff", "path": path, "text": text})]);
    // With `--json`, the output is the answer only.
    let file = file.to_str().unwrap();
    let server = FakeControlServer::new(vec![format!("{answer}\n").into_bytes()]);
    let output = server.run(&["check", "--diff", "--json", "--config", file]);
    assert_eq!(serde_json::from_str::<Value>(&output.out).unwrap(), answer);
    // Without a running process, the file is still valid.
    let output =
        run_cli(Path::new("/nowhere/control.sock"), &["check", "--diff", "--config", file]);
    assert_eq!(output.code, Some(69));
    assert!(output.out.ends_with("valid: 1 listener(s), 1 route(s)\n"), "{}", output.out);
}

#[test]
fn invalid_file_is_not_sent() {
    let folder = TempDir::new();
    let file = write_config(&folder, "[limits]\nidle = 30\n");
    let file = file.to_str().unwrap();
    let nowhere = Path::new("/nowhere/control.sock");
    let plain = output(&mut command(&["check", "--config", file]));
    let with_diff = run_cli(nowhere, &["check", "--diff", "--config", file]);
    assert_eq!((with_diff.code, &with_diff.err), (Some(78), &plain.err));
    let json = run_cli(nowhere, &["check", "--diff", "--json", "--config", file]);
    let fault: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, json.err.as_str()), (Some(78), ""));
    assert_eq!(fault["error"]["kind"], "rejected");
    assert!(fault["error"]["errors"][0].as_str().unwrap().contains("limits.idle"), "{fault}");
    // An error that only shows when certificates are read.
    let file = write_config(&folder, "");
    folder.write("key.pem", "no key");
    let json = run_cli(nowhere, &["check", "--diff", "--json", "--config", file.to_str().unwrap()]);
    let fault: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json.code, Some(78));
    assert!(
        fault["error"]["errors"][0].as_str().unwrap().contains("certificate[0].key"),
        "{fault}"
    );
}

#[test]
fn completions_and_man_pages_list_every_command() {
    let folder = TempDir::new();
    let output = output(command(&["man"]).arg(folder.path()));
    assert_eq!((output.code, output.err.as_str()), (Some(0), ""));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let page = |name: &str| match name {
        // The page of the daemon.
        "tidegate-run" => read("tidegate.8"),
        name => read(&format!("{name}.1")),
    };
    assert_eq!(read("tidegate-run.1"), ".so man8/tidegate.8\n");
    assert!(read("tidegate.8").starts_with(".ie") && read("tidegate.8").contains(".SH SIGNALS\n"));
    assert!(read("proxy.toml.5").contains("\n.SH \"[[listener]]\"\n"), "{}", read("proxy.toml.5"));
    let commands = [
        "status",
        "top",
        "sessions",
        "session",
        "kill",
        "drain",
        "undrain",
        "weight",
        "maintenance",
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
            let script = stdout_of(&["completions", shell]);
            assert!(script.contains(name), "{shell}: {name}");
            assert!(!script.contains("tidegate__subcmd__man"), "{shell}: hidden command");
        }
    }
    assert_eq!(stdout_of(&["completions", "bash"]).matches("complete -F").count(), 2);
    let nowhere = exit_code_of(&["man", "/nowhere"]);
    assert_eq!(nowhere, Some(1));
}

fn stdout_of(args: &[&str]) -> String {
    output(&mut command(args)).out
}

fn exit_code_of(args: &[&str]) -> Option<i32> {
    output(&mut command(args)).code
}
