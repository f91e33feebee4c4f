//! The proxy as a child process: configuration, log records, signals and exit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tokio::sync::Notify;

use super::{TIMEOUT, TempDir, within_timeout, write_certificate};

/// One line of stderr: a JSON record, or a string if it is not JSON.
pub type Record = Value;

/// The configuration that [`Proxy::start`] puts before the given text.
pub const BASE: &str = "[log]\nformat = \"json\"\nlevel = \"debug\"\n\
    [admin]\naddress = \"127.0.0.1:0\"\n\
    [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
    [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
    [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n";

/// A running proxy. Dropping it kills the process and removes its files.
pub struct Proxy {
    child: Child,
    folder: TempDir,
    records: Arc<Records>,
    /// The certificate that clients must trust.
    pub certificate: rustls::pki_types::CertificateDer<'static>,
}

/// The sockets and the certificate that successive processes share.
pub struct SharedSockets {
    /// At most two sockets.
    pub sockets: Vec<OwnedFd>,
    /// Additional environment variables; `PID` overrides `LISTEN_PID`.
    pub environment: Vec<(&'static str, String)>,
    certificate: rustls::pki_types::CertificateDer<'static>,
    pem: [String; 2],
}

impl SharedSockets {
    /// Shares these sockets and a new certificate.
    pub fn with(sockets: Vec<OwnedFd>) -> Self {
        let folder = TempDir::new();
        let certificate = write_certificate(folder.path(), &["localhost", "127.0.0.1"]);
        let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        let pem = [read("chain.pem"), read("key.pem")];
        Self { sockets, environment: Vec::new(), certificate, pem }
    }
}

#[derive(Default)]
struct Records {
    lines: Mutex<Vec<Record>>,
    more: Notify,
}

impl Proxy {
    /// Starts with one TLS listener named `tls` and one plain listener named `plain`, a default
    /// certificate for `localhost` and `127.0.0.1`, and JSON records at debug level. `rest` adds
    /// routes, limits and so on; use [`Proxy::start_bare`] to replace the `[log]`, `[admin]` or
    /// `[[listener]]` tables.
    pub async fn start(rest: &str) -> Self {
        Self::start_bare(&format!("{BASE}{rest}")).await
    }

    /// Starts with one route, which sends all requests to these backends.
    pub async fn with_backends(backends: &[SocketAddr]) -> Self {
        Self::start(&route(backends, "")).await
    }

    /// Starts with exactly this configuration, in a folder with `chain.pem` and `key.pem`.
    pub async fn start_bare(config: &str) -> Self {
        let mut proxy = Self::spawn(config, &[]);
        proxy.ready().await;
        proxy
    }

    /// Starts the process without waiting until it serves.
    pub fn spawn(config: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(TIDEGATE);
        command.envs(environment.iter().copied());
        Self::launch(command, config)
    }

    /// Like [`Proxy::spawn`], with at most `most` file descriptors.
    pub fn spawn_with_descriptors(most: usize, config: &str) -> Self {
        Self::spawn_under(&format!("ulimit -n {most}"), config)
    }

    /// Like [`Proxy::spawn`], after a shell command that runs in the same process.
    pub fn spawn_under(before: &str, config: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before} && exec \"$0\" \"$@\""), TIDEGATE]);
        Self::launch(command, config)
    }

    /// Starts with the certificate and the sockets of [`SharedSockets`], passed as a service
    /// manager passes them (sd_listen_fds(3)).
    pub fn spawn_with_sockets(shared: &SharedSockets, config: &str) -> Self {
        let count = shared.sockets.len();
        // A shell knows its own process id before `exec` turns it into the proxy.
        let script = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_PID=${PID:-$$}; \
                      exec \"$0\" \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, TIDEGATE]);
        command.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", "first:second");
        command.envs(shared.environment.iter().map(|(key, value)| (key, value)));
        let mut sockets = shared.sockets.iter().map(|socket| socket.try_clone().unwrap());
        command.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
        let folder = TempDir::new();
        for (name, pem) in ["chain.pem", "key.pem"].iter().zip(&shared.pem) {
            folder.write(name, pem);
        }
        Self::launch_in(folder, shared.certificate.clone(), command, config)
    }

    /// Like [`Proxy::spawn`], run by a command that takes the program as its last argument.
    pub fn spawn_by(mut command: Command, config: &str) -> Self {
        command.arg(TIDEGATE);
        Self::launch(command, config)
    }

    fn launch(command: Command, config: &str) -> Self {
        let folder = TempDir::new();
        let certificate = write_certificate(folder.path(), &["localhost", "127.0.0.1"]);
        Self::launch_in(folder, certificate, command, config)
    }

    fn launch_in(
        folder: TempDir,
        certificate: rustls::pki_types::CertificateDer<'static>,
        mut command: Command,
        config: &str,
    ) -> Self {
        folder.write("proxy.toml", config);
        let mut child = command
            .args(["run", "--config", "proxy.toml"])
            // Not /run/tidegate, which all tests would share.
            .env("RUNTIME_DIRECTORY", folder.path())
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let records = Arc::new(Records::default());
        let kept = records.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line).unwrap_or_else(|_| Value::from(line));
                kept.lines.lock().unwrap().push(record);
                kept.more.notify_waiters();
            }
        });
        Self { child, folder, records, certificate }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the log line that says that the proxy is serving.
    pub async fn ready(&mut self) {
        self.record("serving", |record| record["message"] == "serving").await;
    }

    /// The address that the listener with this name is bound to.
    pub async fn address(&self, listener: &str) -> SocketAddr {
        let record = self
            .record(listener, |r| r["message"] == "listening" && r["listener"] == listener)
            .await;
        record["address"].as_str().unwrap().parse().unwrap()
    }

    /// The address of the admin listener.
    pub async fn admin(&self) -> SocketAddr {
        let record = self.record("admin", |r| r["message"] == "admin listening").await;
        record["address"].as_str().unwrap().parse().unwrap()
    }

    /// Waits for the first record that matches, including those already written.
    pub async fn record(&self, what: &str, matches: impl Fn(&Record) -> bool) -> Record {
        self.nth_record(what, 1, matches).await
    }

    /// Waits for the n-th record that matches, counted from 1.
    pub async fn nth_record(
        &self,
        what: &str,
        n: usize,
        matches: impl Fn(&Record) -> bool,
    ) -> Record {
        match tokio::time::timeout(TIMEOUT, self.awaited(n, matches)).await {
            Ok(found) => found,
            Err(_) => {
                panic!("waited {TIMEOUT:?} for record {n}: {what}; so far: {:#?}", self.records())
            }
        }
    }

    /// Waits for a record that may take longer than the usual timeout.
    pub async fn late_record(&self, limit: Duration, matches: impl Fn(&Record) -> bool) -> Record {
        match tokio::time::timeout(limit, self.awaited(1, matches)).await {
            Ok(found) => found,
            Err(_) => panic!("waited {limit:?}: {:#?}", self.records()),
        }
    }

    async fn awaited(&self, n: usize, matches: impl Fn(&Record) -> bool) -> Record {
        loop {
            let more = self.records.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let found = self.records().into_iter().filter(|r| matches(r)).nth(n - 1);
            if let Some(found) = found {
                return found;
            }
            more.await;
        }
    }

    /// Waits for the record of a termination, rejection or drop with this reason.
    pub async fn end_record(&self, slug: &str) -> Record {
        self.record(slug, |record| record["end"] == slug).await
    }

    /// All records read so far. Records may still be in the pipe.
    pub fn records(&self) -> Vec<Record> {
        self.records.lines.lock().unwrap().clone()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Suspends the process, and waits until none of its threads runs any more.
    pub async fn suspend(&self) {
        self.signal(Signal::STOP);
        let is_stopped = || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat"))).all(
                // The state follows the name, which is in parentheses (proc_pid_stat(5)).
                |stat| stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" T")),
            )
        };
        within_timeout("the process to stop", async {
            while !is_stopped() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits for the process to exit; `None` if a signal killed it.
    pub async fn exit(&mut self) -> Option<i32> {
        within_timeout("the process to end", async {
            loop {
                // A child process of std has no future to await: poll it.
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Replaces the configuration file.
    pub fn rewrite(&self, config: &str) {
        self.folder.write("proxy.toml", config);
    }

    /// Reads the configuration file.
    pub fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("proxy.toml")).unwrap()
    }

    /// Replaces one piece of text in the configuration, reloads, and waits for the resulting
    /// record.
    pub async fn reload_with(&self, from: &str, to: &str) -> Record {
        let config = self.config();
        assert!(config.contains(from), "{from:?} is not in {config}");
        self.rewrite(&config.replace(from, to));
        self.reload().await
    }

    /// Sends SIGHUP and waits for the record that reports the result.
    pub async fn reload(&self) -> Record {
        let is_result = |record: &Record| {
            let message = record["message"].as_str().unwrap_or_default();
            message.starts_with("reloaded") || message.starts_with("reload rejected;")
        };
        let before = self.records().iter().filter(|record| is_result(record)).count();
        self.signal(Signal::HUP);
        self.nth_record("reload", before + 1, is_result).await
    }

    /// The folder with the configuration file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All records so far of connections dropped, requests rejected and tunnels ended, in order.
    pub fn outcomes(&self) -> Vec<Record> {
        self.records().into_iter().filter(is_outcome).collect()
    }

    /// Waits for the n-th record of a drop, rejection or end, counted from 1.
    pub async fn nth_end_record(&self, n: usize) -> Record {
        self.nth_record("an end record", n, is_outcome).await
    }

    /// Sets a resource limit of the running process; `None` removes the limit.
    pub fn limit(&self, resource: Resource, current: Option<u64>) {
        let id = Pid::from_raw(self.child.id() as i32);
        prlimit(id, resource, Rlimit { current, maximum: None }).unwrap();
    }

    /// Allows the process `spare` more file descriptors than it has open; `None` removes the limit.
    pub fn spare_descriptors(&self, spare: Option<usize>) {
        let id = self.child.id();
        // The proxy may still have to close a connection it has just answered, and no event reports
        // that.
        let mut open = usize::MAX;
        while spare.is_some() && open != self.memory_and_descriptors().1 {
            open = self.memory_and_descriptors().1;
            thread::sleep(Duration::from_millis(50));
        }
        let whole = getrlimit(Resource::Nofile).maximum;
        // The limit applies to descriptor numbers, and the kernel assigns the lowest free one.
        let taken = |number: &u64| Path::new(&format!("/proc/{id}/fd/{number}")).is_symlink();
        let current = spare.and_then(|spare| (0..).filter(|number| !taken(number)).nth(spare));
        let limit = Rlimit { current: current.or(whole), maximum: whole };
        prlimit(Pid::from_raw(id as i32), Resource::Nofile, limit).unwrap();
    }

    /// Processor time used so far, in clock ticks (1/100 s).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // proc(5): the name in parentheses may contain anything; fields 14 and 15 are utime and
        // stime.
        let (_, after) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = after.split_whitespace().collect();
        [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Resident memory in KiB and the number of open file descriptors, from /proc.
    pub fn memory_and_descriptors(&self) -> (u64, usize) {
        let id = self.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let rss = rss.trim().trim_end_matches(" kB").parse().unwrap();
        (rss, fs::read_dir(format!("/proc/{id}/fd")).unwrap().count())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a record shows how a connection, a tunnel or a request failed or ended.
fn is_outcome(record: &Record) -> bool {
    record["end"].is_string() && record["event"] != "served"
}

/// A route named `all` that allows every Origin; `more` adds keys, and may add further tables.
pub fn route(backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [{}]\n{more}\n",
        backends.join(", ")
    )
}

/// Path of the program under test.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
