//! `tidegate demo`: runs the proxy with the configuration, backend and page of the demo.
//!
//! Everything except the proxy comes from the `tidegate-demo` crate. This module parses its
//! configuration, and restarts the proxy after the page has requested a drain.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;

use tidegate_demo::{Backend, Certificate, Page, Setup, welcome};
use tokio::select;
use tokio::sync::mpsc;

use crate::app::{RunError, run};
use crate::config::settings::{CertificateSettings, CertificateSource, Settings};
use crate::config::toml::diagnostic::Diagnostics;
use crate::listener::inherited::InheritedSockets;
use crate::server::reload::ConfigSource;
use crate::server::signals::{self, Signal};
use crate::telemetry::log;

/// Runs the demo on the loopback address `listen` until SIGINT or SIGTERM. Prints its address and
/// what to try to standard output, errors to standard error.
pub fn main(listen: SocketAddr) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(listen)),
        Err(error) => Err(DemoError::System(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr) -> Result<(), DemoError> {
    let (_, signals) = signals::listen().map_err(DemoError::System)?;
    let demo = Demo::prepare(listen).await?;
    let _flush = log::init(&demo.settings.log);
    // The demo works without a terminal.
    let _ = writeln!(io::stdout(), "{}", demo.welcome());
    let proxy = |settings: Settings, signals| {
        let source = ConfigSource::Fixed(Box::new(settings.clone()));
        run::run(settings, source, InheritedSockets::default(), signals)
    };
    demo.run(signals, proxy).await.map_err(|error| match error {
        RunError::Settings(errors) => {
            let problems: Vec<_> = errors.into_iter().map(|error| error.problem).collect();
            DemoError::Proxy(problems.join("; "))
        }
        RunError::System(error) | RunError::Task(error) => DemoError::Proxy(error),
    })
}

#[expect(clippy::print_stderr, reason = "an error message for the terminal")]
fn print_error(error: &DemoError) {
    match error.source() {
        Some(source) => eprintln!("tidegate: {error}: {source}"),
        None => eprintln!("tidegate: {error}"),
    }
}

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// An address is not available, or the certificate cannot be generated.
    #[error(transparent)]
    Setup(#[from] tidegate_demo::Error),
    /// The embedded configuration has errors.
    #[error(transparent)]
    Settings(#[from] Diagnostics),
    /// The runtime or the signal handlers cannot be set up.
    #[error("cannot start the runtime")]
    System(#[source] io::Error),
    /// The proxy failed to start.
    #[error("{0}")]
    Proxy(String),
}

/// The running backend, and the settings of the proxy in front of it.
#[derive(Debug)]
struct Demo {
    settings: Settings,
    backend: Backend,
    drain_requests: mpsc::Receiver<()>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Demo {
    /// Builds the settings and starts the backend; see [`Setup::new`] for the addresses.
    async fn prepare(listen: SocketAddr) -> Result<Self, DemoError> {
        let setup = Setup::new(listen).await?;
        let mut settings = Settings::parse(&setup.configuration, "demo.toml")?;
        let Certificate { chain, key } = setup.certificate;
        let source = CertificateSource::Memory { chain, key };
        settings.certificates = vec![CertificateSettings { source, default: true }];
        settings.admin = Some(setup.admin);
        let (drain, drain_requests) = mpsc::channel(1);
        let backend = Backend::start(setup.backend, page(&settings, setup.admin), drain);
        Ok(Self { settings, backend, drain_requests, address: setup.address, admin: setup.admin })
    }

    fn welcome(&self) -> String {
        welcome(self.address, self.admin, self.settings.concurrency.tunnels_per_client)
    }

    /// Runs `proxy` until it fails or a [`Signal::Stop`] arrives. A drain that the page requested
    /// starts it again, with the same settings on the same port.
    async fn run<P, F, E>(mut self, mut signals: mpsc::Receiver<Signal>, proxy: P) -> Result<(), E>
    where
        P: Fn(Settings, mpsc::Receiver<Signal>) -> F,
        F: Future<Output = Result<(), E>>,
    {
        let ended = loop {
            let (sender, receiver) = mpsc::channel(SIGNALS_MAX);
            let mut serving = pin!(proxy(self.settings.clone(), receiver));
            let mut after_exit = None;
            let ended = loop {
                let signal = select! {
                    ended = &mut serving => break ended,
                    Some(signal) = signals.recv() => {
                        if signal == Signal::Stop {
                            after_exit = Some(AfterExit::Stop);
                        }
                        signal
                    }
                    Some(()) = self.drain_requests.recv(), if after_exit.is_none() => {
                        after_exit = Some(AfterExit::Restart);
                        Signal::Stop
                    }
                };
                // If the queue is full, the proxy already has enough stop signals.
                let _ = sender.try_send(signal);
            };
            // Requests that arrived during the drain are covered by it.
            while self.drain_requests.try_recv().is_ok() {}
            if ended.is_err() || after_exit != Some(AfterExit::Restart) {
                break ended;
            }
        };
        self.backend.stop().await;
        ended
    }
}

/// What happens once the proxy, which is already stopping, has exited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterExit {
    Stop,
    Restart,
}

/// The settings that the page explains.
fn page(settings: &Settings, admin: SocketAddr) -> Page {
    let policy = settings.routes.first().map(|route| &route.policy);
    Page {
        message_max: policy
            .and_then(|policy| policy.from_client.message)
            .map_or(0, |limit| limit.max),
        tunnels_max: settings.concurrency.tunnels_per_client,
        drain_window_ms: settings.drain.window.as_millis(),
        admin,
    }
}

/// Signals queued for the proxy: stop, force, and some more.
const SIGNALS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn backend_address(demo: &Demo) -> SocketAddr {
        let backend = &demo.settings.routes[0].pool.backends[0];
        backend.address.to_string().parse().expect("an address")
    }

    async fn request_drain(backend: SocketAddr) -> String {
        let mut stream = TcpStream::connect(backend).await.expect("listening");
        let head = "POST /demo/drain HTTP/1.1\r\nHost: localhost\r\n\
                    Origin: https://localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("text");
        response
    }

    #[tokio::test]
    async fn settings_match_page_and_welcome() {
        let demo = Demo::prepare(LOOPBACK).await.expect("prepared");
        assert_ne!(demo.address.port(), 0);
        assert_eq!(demo.settings.listeners[0].address, demo.address);
        assert!(demo.settings.listeners[0].tls);
        assert!(request_drain(backend_address(&demo)).await.starts_with("HTTP/1.1 202"));
        let shown = page(&demo.settings, demo.admin);
        let limits = (shown.message_max, shown.tunnels_max, shown.drain_window_ms);
        assert_eq!((limits, shown.admin), ((1 << 20, 32, 3000), demo.admin));
        let welcome = demo.welcome();
        assert!(welcome.contains(&format!("https://{}\n", demo.address)), "{welcome}");
        assert!(welcome.contains(&format!("http://{}/status", demo.admin)), "{welcome}");
        assert_eq!(demo.settings.admin, Some(demo.admin));
        assert!(welcome.contains("have 32 WebSockets") && !welcome.contains("{{"), "{welcome}");
    }

    #[tokio::test]
    async fn drain_request_restarts_and_stop_ends_everything() {
        let demo = Demo::prepare(LOOPBACK).await.expect("prepared");
        let (address, backend) = (demo.address, backend_address(&demo));
        let (stop, signals) = mpsc::channel(2);
        let runs = Mutex::new(0);
        let proxy = |settings: Settings, mut signals: mpsc::Receiver<Signal>| {
            let run = {
                let mut runs = runs.lock().expect("not poisoned");
                *runs += 1;
                *runs
            };
            let stop = stop.clone();
            async move {
                assert_eq!(settings.listeners[0].address, address);
                match run {
                    1 => assert!(request_drain(backend).await.starts_with("HTTP/1.1 202")),
                    _ => stop.send(Signal::Stop).await.expect("received"),
                }
                let signal = signals.recv().await;
                signal.filter(|signal| *signal == Signal::Stop).map(drop).ok_or("no stop signal")
            }
        };
        demo.run(signals, proxy).await.expect("ended without an error");
        assert_eq!(*runs.lock().expect("not poisoned"), 2);
        assert!(TcpStream::connect(backend).await.is_err(), "the backend is still running");
    }

    #[tokio::test]
    async fn proxy_error_ends_the_demo() {
        let demo = Demo::prepare(LOOPBACK).await.expect("prepared");
        let (_stop, signals) = mpsc::channel(1);
        assert_eq!(demo.run(signals, |_, _| async { Err("no") }).await, Err("no"));
    }
}
