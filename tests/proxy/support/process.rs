//! The proxy as a child process: its configuration, its records, its signals, its end.

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

use super::{TempDir, within_timeout, write_certificate};

/// One line that the proxy wrote.
pub type Record = Value;

/// What [`Proxy::start`] puts before the rest.
pub const BASE: &str = "[log]\nformat = \"json\"\nlevel = \"debug\"\n\
    [admin]\naddress = \"127.0.0.1:0\"\n\
    [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
    [[listener]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\ntls = false\n\
    [[certificate]]\nchain = \"chain.pem\"\nkey = \"key.pem\"\ndefault = true\n";

/// A running proxy; killed and cleaned up when dropped.
pub struct Proxy {
    child: Child,
    folder: TempDir,
    records: Arc<Records>,
    /// The certificate that clients must trust.
    pub certificate: rustls::pki_types::CertificateDer<'static>,
}

/// What processes have in common that follow each other at the same sockets.
pub struct SharedSockets {
    /// At most two.
    pub sockets: Vec<OwnedFd>,
    /// More variables of the environment; `PID` is whom the sockets are said to be for.
    pub environment: Vec<(&'static str, String)>,
    certificate: rustls::pki_types::CertificateDer<'static>,
    pem: [String; 2],
}

impl SharedSockets {
    /// With a certificate of its own.
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
    /// Starts with one TLS listener named `tls` and one plain listener named `plain`, a
    /// certificate for `localhost` and `127.0.0.1` shown by default, JSON records at debug level,
    /// and whatever `rest` holds (routes, limits, ...). `rest` may bring its own `[log]`, `[admin]`
    /// and `[[listener]]` tables only if it uses [`Proxy::start_bare`].
    pub async fn start(rest: &str) -> Self {
        Self::start_bare(&format!("{BASE}{rest}")).await
    }

    /// A proxy whose only route takes everything, from anywhere, to these backends.
    pub async fn with_backends(backends: &[SocketAddr]) -> Self {
        Self::start(&route(backends, "")).await
    }

    /// Starts with exactly this configuration, in a folder with `chain.pem` and `key.pem`.
    pub async fn start_bare(config: &str) -> Self {
        let mut proxy = Self::spawn(config, &[]);
        proxy.ready().await;
        proxy
    }

    /// Starts the process, and does not wait for it to serve.
    pub fn spawn(config: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(TIDEGATE);
        command.envs(environment.iter().copied());
        Self::launch(command, config)
    }

    /// The same, with no more than so many file descriptors from the beginning.
    pub fn spawn_with_descriptors(most: usize, config: &str) -> Self {
        Self::spawn_under(&format!("ulimit -n {most}"), config)
    }

    /// The same, after a command of the shell that starts it.
    pub fn spawn_under(before: &str, config: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before} && exec \"$0\" \"$@\""), TIDEGATE]);
        Self::launch(command, config)
    }

    /// The same, with the certificate of a [`SharedSockets`] and its sockets passed as a service manager
    /// passes them.
    pub fn spawn_with_sockets(shared: &SharedSockets, config: &str) -> Self {
        let count = shared.sockets.len();
        // A shell knows its own process id before it becomes the proxy.
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

    /// The same, by a command that takes the proxy's own behind its arguments.
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

    /// Waits until it serves.
    pub async fn ready(&mut self) {
        self.record("serving", |record| record["message"] == "serving").await;
    }

    /// The address that a listener of this name got.
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

    /// The first record that fits, written already or soon.
    pub async fn record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        self.nth_record(what, 1, fits).await
    }

    /// The n-th record that fits, from 1.
    pub async fn nth_record(&self, what: &str, n: usize, fits: impl Fn(&Record) -> bool) -> Record {
        let awaited = format!("record {n}: {what}; so far: {:#?}", self.records());
        within_timeout(&awaited, self.awaited(n, fits)).await
    }

    /// The first record that fits, of something that takes its time.
    pub async fn late_record(&self, limit: Duration, fits: impl Fn(&Record) -> bool) -> Record {
        match tokio::time::timeout(limit, self.awaited(1, fits)).await {
            Ok(found) => found,
            Err(_) => panic!("waited {limit:?}: {:#?}", self.records()),
        }
    }

    async fn awaited(&self, n: usize, fits: impl Fn(&Record) -> bool) -> Record {
        loop {
            let more = self.records.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let found = self.records().into_iter().filter(|r| fits(r)).nth(n - 1);
            if let Some(found) = found {
                return found;
            }
            more.await;
        }
    }

    /// The record of an end, a refusal or a drop with this name.
    pub async fn end_record(&self, slug: &str) -> Record {
        self.record(slug, |record| record["end"] == slug).await
    }

    /// Everything written so far.
    pub fn records(&self) -> Vec<Record> {
        self.records.lines.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to end; its exit code.
    pub async fn exit(&mut self) -> Option<i32> {
        within_timeout("the process to end", async {
            loop {
                // The stderr thread wakes us at end of file, but a child has no future of its own
                // in std: a short nap between two looks.
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

    /// The configuration file as it stands.
    pub fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("proxy.toml")).unwrap()
    }

    /// Rewrites by replacing one piece of text, reloads, and waits for the outcome's record.
    pub async fn reload_with(&self, from: &str, to: &str) -> Record {
        let config = self.config();
        assert!(config.contains(from), "{from:?} is not in {config}");
        self.rewrite(&config.replace(from, to));
        self.reload().await
    }

    /// SIGHUP, and the record of how it went.
    pub async fn reload(&self) -> Record {
        let told = |record: &Record| {
            let message = record["message"].as_str().unwrap_or_default();
            message.starts_with("reloaded") || message.starts_with("the configuration in force")
        };
        let before = self.records().iter().filter(|record| told(record)).count();
        self.signal(Signal::HUP);
        self.nth_record("reload", before + 1, told).await
    }

    /// Where its configuration lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The records of everything that was dropped, refused or ended so far, in their order.
    pub fn outcomes(&self) -> Vec<Record> {
        self.records().into_iter().filter(|record| record["end"].is_string()).collect()
    }

    /// The n-th record of something dropped, refused or ended, from 1.
    pub async fn nth_outcome(&self, n: usize) -> Record {
        self.nth_record("outcome", n, |record| record["end"].is_string()).await
    }

    /// Sets a limit of the running process; `None`: as high as may be.
    pub fn limit(&self, resource: Resource, current: Option<u64>) {
        let id = Pid::from_raw(self.child.id() as i32);
        prlimit(id, resource, Rlimit { current, maximum: None }).unwrap();
    }

    /// Lets the running process open so many more file descriptors than it has; `None`: as many
    /// as it likes.
    pub fn spare_descriptors(&self, spare: Option<usize>) {
        let id = self.child.id();
        // A connection that it has just answered it may yet have to close; nothing tells when.
        let mut open = usize::MAX;
        while spare.is_some() && open != self.memory_and_descriptors().1 {
            open = self.memory_and_descriptors().1;
            thread::sleep(Duration::from_millis(50));
        }
        let whole = getrlimit(Resource::Nofile).maximum;
        // The limit is one on numbers, and the kernel gives out the lowest that is free.
        let taken = |number: &u64| Path::new(&format!("/proc/{id}/fd/{number}")).is_symlink();
        let current = spare.and_then(|spare| (0..).filter(|number| !taken(number)).nth(spare));
        let limit = Rlimit { current: current.or(whole), maximum: whole };
        prlimit(Pid::from_raw(id as i32), Resource::Nofile, limit).unwrap();
    }

    /// Processor time used so far, in clock ticks (a hundredth of a second).
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // proc(5): the name in parentheses may hold anything; utime and stime are 14 and 15.
        let (_, behind) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = behind.split_whitespace().collect();
        [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Resident memory in KiB, and open descriptors, as /proc has them.
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

/// A route named `all` that welcomes every Origin, with more keys of its own and then, perhaps,
/// more tables.
pub fn route(backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[route]]\nname = \"all\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [{}]\n{more}\n",
        backends.join(", ")
    )
}

/// The program under test.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
