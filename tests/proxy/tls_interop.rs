//! TLS with independent clients: OpenSSL, GnuTLS, Python and Node, each if it is installed. Covers
//! data larger than a record, resumption, key updates and HelloRetryRequest.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::ioctl_fionread;
use tokio::time::Instant;

use crate::support::{Backend, Proxy, TIMEOUT};

/// A proxy with a backend that responds with 200,000 bytes.
async fn large_response() -> (Proxy, Backend, String) {
    let body: String = ('a'..='z').cycle().take(200_000).collect();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{body}");
    let backend = Backend::app(response).await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    (proxy, backend, body)
}

const GET_CRLF: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// OpenSSL sends each line end as CRLF.
const GET: &str = "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n";

/// Runs a program and writes `input` to it; at each `|` it first waits until the program has read
/// everything before. Its standard input stays open. Returns its output, or `None` if the program
/// is not installed.
#[expect(clippy::print_stdout, reason = "reports the skipped test")]
async fn run_program(
    program: &'static str,
    arguments: Vec<String>,
    input: &'static str,
) -> Option<String> {
    let output = tokio::task::spawn_blocking(move || {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: {program} is not installed");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        for (n, piece) in input.split('|').enumerate() {
            if n > 0 {
                wait_until_read(&stdin, &mut child);
            }
            // Fails if the program was rejected and has exited.
            let _ = stdin.write_all(piece.as_bytes());
        }
        let (done, ended) = mpsc::sync_channel(2);
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut pipe in pipes {
            let done = done.clone();
            thread::spawn(move || {
                let mut output = Vec::new();
                let _ = pipe.read_to_end(&mut output);
                let _ = done.send(String::from_utf8_lossy(&output).into_owned());
            });
        }
        let mut output = String::new();
        for _ in 0..2 {
            match ended.recv_timeout(TIMEOUT) {
                Ok(more) => output.push_str(&more),
                Err(_) => {
                    let _ = child.kill();
                    panic!("{program} does not exit: {output}");
                }
            }
        }
        let _ = child.wait();
        Some(output)
    });
    output.await.unwrap()
}

/// Waits until the pipe is empty, or the program has exited.
fn wait_until_read(pipe: &ChildStdin, child: &mut Child) {
    let begun = Instant::now();
    while ioctl_fionread(pipe).unwrap() > 0 && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < TIMEOUT, "the program does not read its input");
        thread::sleep(Duration::from_millis(1));
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn openssl_connects_with_each_version_and_group() {
    let (proxy, _backend, body) = large_response().await;
    let address = proxy.address("tls").await;
    let base = format!("s_client -connect {address} -servername localhost -alpn http/1.1 -crlf");
    for (options, protocol) in [
        ("-tls1_2", "TLSv1.2"),
        ("-tls1_3", "TLSv1.3"),
        // rustls does not support the first group, so it sends a HelloRetryRequest.
        ("-tls1_3 -groups P-521:P-256", "TLSv1.3"),
        ("-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3"),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2"),
        ("-tls1_3 -max_send_frag 512", "TLSv1.3"),
    ] {
        let Some(output) = run_program("openssl", words(&format!("{base} {options}")), GET).await
        else {
            return;
        };
        assert!(output.contains(&body), "{options}: {output}");
        assert!(output.contains(&format!("New, {protocol}")), "{options}: {output}");
        assert!(output.contains("closed") && !output.contains("alert"), "{options}: {output}");
    }
    // `k` and `K` are its commands for a key update; `K` requests one in return.
    let updated = run_program(
        "openssl",
        words(&format!("{base} -tls1_3")),
        "|k\n|K\n|GET / HTTP/1.1\n|k\n|Host: localhost\n|K\n|Connection: close\n|K\n|\n",
    );
    let output = updated.await.unwrap();
    assert_eq!(output.matches("KEYUPDATE").count(), 5, "{output}");
    assert!(output.contains(&body), "{output}");
}

#[tokio::test]
async fn openssl_resumes_and_sees_alerts() {
    let (proxy, _backend, body) = large_response().await;
    let address = proxy.address("tls").await;
    let base = format!("s_client -connect {address} -servername localhost");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = proxy.folder().join(format!("session{version}"));
        let session = session.display();
        let first = words(&format!("{base} {version} -crlf -sess_out {session}"));
        let Some(output) = run_program("openssl", first, GET).await else { return };
        assert!(output.contains("New, "), "{output}");
        let second = words(&format!("{base} {version} -crlf -sess_in {session}"));
        let output = run_program("openssl", second, GET).await.unwrap();
        assert!(output.contains("Reused, ") && output.contains(&body), "{version}: {output}");
    }
    for (options, alert) in [
        ("-alpn ftp", "no application protocol"),
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", "handshake failure"),
    ] {
        let output = run_program("openssl", words(&format!("{base} {options}")), "").await.unwrap();
        assert!(output.contains(&format!("alert {alert}")), "{options}: {output}");
    }
}

#[tokio::test]
async fn gnutls_receives_the_whole_response() {
    let (proxy, _backend, body) = large_response().await;
    let address = proxy.address("tls").await;
    for version in ["1.2", "1.3"] {
        let arguments = format!(
            "--insecure --sni-hostname localhost --priority NORMAL:-VERS-ALL:+VERS-TLS{version} \
             --port {} {}",
            address.port(),
            address.ip()
        );
        let Some(output) = run_program("gnutls-cli", words(&arguments), GET_CRLF).await else {
            return;
        };
        assert!(output.contains(&body), "{version}: {output}");
        assert!(output.contains(&format!("(TLS{version}")), "{version}: {output}");
        // It reports an error instead if close_notify is missing.
        assert!(output.contains("Peer has closed the GnuTLS connection"), "{version}: {output}");
    }
}

/// A hand-written WebSocket client: messages of several sizes, then the closing handshake.
const PYTHON: &str = r#"
import os, socket, ssl, sys
host, port, version, chain = sys.argv[1:]
context = ssl.create_default_context(cafile=chain)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
session = None
for round in range(2):
    tcp = socket.create_connection((host, int(port)), timeout=20)
    tls = context.wrap_socket(tcp, server_hostname="localhost", session=session)
    tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    file = tls.makefile("rb")
    while (line := file.readline()) != b"\r\n":
        assert line, "no answer"
    for size in (1, 125, 60000):
        payload = os.urandom(size)
        head = bytes([0x82, 0x80 | size]) if size < 126 else b"\x82\xfe" + size.to_bytes(2, "big")
        tls.sendall(head + bytes(4) + payload)
        head = 2 if size < 126 else 4
        assert file.read(head + size)[head:] == payload, size
    tls.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    assert file.read(4) == b"\x88\x02\x03\xe8"
    session = tls.session
    print("round", round, tls.session_reused)
    tls.unwrap()
"#;

#[tokio::test]
async fn python_resumes_tls_sessions() {
    let backend = Backend::echo().await;
    let proxy = Proxy::with_backends(&[backend.address]).await;
    let address = proxy.address("tls").await;
    for version in ["TLSv1_2", "TLSv1_3"] {
        let mut arguments = vec!["-c".to_owned(), PYTHON.to_owned()];
        arguments.extend([address.ip().to_string(), address.port().to_string(), version.into()]);
        arguments.push(proxy.folder().join("chain.pem").display().to_string());
        let Some(output) = run_program("python3", arguments, "").await else { return };
        assert!(output.contains("round 0 False\nround 1 True\n"), "{version}: {output}");
    }
}

/// Two connections, of which the second is resumed.
const NODE: &str = r#"
const tls = require("tls"), fs = require("fs");
const [host, port, version, chain] = process.argv.slice(1);
let session;
function visit(round) {
  if (round == 2) return;
  const socket = tls.connect({ host, port, servername: "localhost", ca: fs.readFileSync(chain),
    ALPNProtocols: ["http/1.1"], minVersion: version, maxVersion: version, session });
  let bytes = 0;
  socket.on("session", (got) => { session = got; });
  socket.on("data", (data) => { bytes += data.length; });
  socket.on("end", () => console.log("round", round, socket.isSessionReused(), bytes > 200000));
  socket.on("close", () => visit(round + 1));
  socket.on("secureConnect", () =>
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
}
visit(0);
"#;

#[tokio::test]
async fn node_resumes_tls_sessions() {
    let (proxy, _backend, _) = large_response().await;
    let address = proxy.address("tls").await;
    for version in ["TLSv1.2", "TLSv1.3"] {
        let mut arguments = vec!["-e".to_owned(), NODE.to_owned(), "--".to_owned()];
        arguments.extend([address.ip().to_string(), address.port().to_string(), version.into()]);
        arguments.push(proxy.folder().join("chain.pem").display().to_string());
        let Some(output) = run_program("node", arguments, "").await else { return };
        assert!(output.contains("round 0 false true\nround 1 true true\n"), "{version}: {output}");
    }
}
