//! `tidegate demo`: the real proxy, with a certificate, a backend and a page of its own.
//!
//! Owns what a first try needs: the embedded configuration, the words on the terminal, and the
//! loop that starts the proxy anew after the page has drained it.

mod backend;
mod certificate;
mod hall;
mod page;

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::process::ExitCode;

use tokio::select;
use tokio::sync::mpsc;

use self::backend::Backend;
use self::page::Page;
use crate::app::{StartFault, serve as app};
use crate::config::settings::CertificateSettings;
use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Faults;
use crate::listener::inherited::Inherited;
use crate::server::reload::Source;
use crate::server::signals::{self, Signal};
use crate::telemetry::log;

/// Runs the demo until Ctrl-C. Says on standard output where it is and what to try there.
pub fn main(listen: SocketAddr) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(listen)),
        Err(error) => Err(DemoFault::Machine(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&fault);
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr) -> Result<(), DemoFault> {
    let (_, signals) = signals::listen().map_err(DemoFault::Machine)?;
    let demo = Demo::prepare(listen).await?;
    let _flush = log::init(&demo.settings.log);
    greet(&demo.welcome());
    let proxy = |settings: Settings, told| {
        let source = Source::Fixed(Box::new(settings.clone()));
        app::run(settings, source, Inherited::default(), told)
    };
    demo.run(signals, proxy).await.map_err(|fault| match fault {
        StartFault::Settings(faults) => {
            let words: Vec<_> = faults.into_iter().map(|fault| fault.problem).collect();
            DemoFault::Proxy(words.join("; "))
        }
        StartFault::Machine(fault) | StartFault::Broken(fault) => DemoFault::Proxy(fault),
    })
}

fn greet(welcome: &str) {
    // Without a terminal the demo is as good.
    let _ = writeln!(io::stdout(), "{welcome}");
}

#[expect(clippy::print_stderr, reason = "for the person at the terminal")]
fn complain(fault: &DemoFault) {
    match fault.source() {
        Some(source) => eprintln!("tidegate: {fault}: {source}"),
        None => eprintln!("tidegate: {fault}"),
    }
}

/// Everything but the proxy, ready to run.
#[derive(Debug)]
struct Demo {
    settings: Settings,
    backend: Backend,
    pressed: mpsc::Receiver<()>,
    address: SocketAddr,
    admin: SocketAddr,
}

/// Why the demo cannot begin.
#[derive(Debug, thiserror::Error)]
enum DemoFault {
    /// The page drains the proxy without a password, and its certificate is for this machine.
    #[error("{0} is not an address of this machine alone; the demo listens on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// Another program listens there; port 0 lets the system choose.
    #[error(
        "{0} is taken, perhaps by another demo; end that one, or choose another port: \
         tidegate demo --listen {1}"
    )]
    Taken(SocketAddr, SocketAddr),
    /// The address cannot be used for another reason.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The backend has no port.
    #[error("the demo's backend cannot listen on 127.0.0.1")]
    Backend(#[source] io::Error),
    /// The certificate could not be made.
    #[error("the demo's certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The embedded configuration is faulty.
    #[error(transparent)]
    Settings(#[from] Faults),
    /// The runtime could not start, or signals cannot be heard.
    #[error("this machine has no room for the demo")]
    Machine(#[source] io::Error),
    /// The proxy itself could not start.
    #[error("{0}")]
    Proxy(String),
}

impl Demo {
    /// Makes the certificate and the settings and starts the backend. With port 0 a free port is
    /// chosen, and kept for as long as the demo lives.
    async fn prepare(listen: SocketAddr) -> Result<Self, DemoFault> {
        let address = free(listen)?;
        let behind = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let behind = behind.await.map_err(DemoFault::Backend)?;
        let leads_to = behind.local_addr().map_err(DemoFault::Backend)?;
        let mut settings = settings(address, leads_to, certificate::make()?)?;
        let admin = free(SocketAddr::new(listen.ip(), 0))?;
        settings.admin = Some(admin);
        let (press, pressed) = mpsc::channel(1);
        let page = Page::of(&settings);
        let backend = Backend::start(behind, page, press);
        Ok(Self { settings, backend, pressed, address, admin })
    }

    /// What to tell the person at the terminal.
    fn welcome(&self) -> String {
        WELCOME
            .replace("{{address}}", &self.address.to_string())
            .replace("{{admin}}", &self.admin.to_string())
            .replace("{{tunnels}}", &self.settings.caps.tunnels_per_client.to_string())
    }

    /// Runs `proxy` until a [`Signal::Stop`] comes or it fails. When it was drained by the page it
    /// is started again, with the same settings on the same port.
    async fn run<P, F, E>(mut self, mut signals: mpsc::Receiver<Signal>, proxy: P) -> Result<(), E>
    where
        P: Fn(Settings, mpsc::Receiver<Signal>) -> F,
        F: Future<Output = Result<(), E>>,
    {
        let ended = loop {
            let (tell, told) = mpsc::channel(SIGNALS_MAX);
            let mut serving = pin!(proxy(self.settings.clone(), told));
            let mut wish = Wish::Stay;
            let ended = loop {
                let signal = select! {
                    ended = &mut serving => break ended,
                    Some(signal) = signals.recv() => {
                        if signal == Signal::Stop {
                            wish = Wish::Leave;
                        }
                        signal
                    }
                    Some(()) = self.pressed.recv(), if wish == Wish::Stay => {
                        wish = Wish::Return;
                        Signal::Stop
                    }
                };
                // Full: the proxy has been told often enough.
                let _ = tell.try_send(signal);
            };
            // A press that came while it was being drained is answered by that drain.
            while self.pressed.try_recv().is_ok() {}
            if ended.is_err() || wish != Wish::Return {
                break ended;
            }
        };
        self.backend.stop().await;
        ended
    }
}

/// What is to come after the proxy that runs now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stay,
    Return,
    Leave,
}

/// The address with its port, which was free a moment ago. So the person can be told the address
/// before, and what to do if it is taken.
fn free(listen: SocketAddr) -> Result<SocketAddr, DemoFault> {
    if !listen.ip().is_loopback() {
        return Err(DemoFault::NotLoopback(listen));
    }
    let bound = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return DemoFault::Taken(listen, SocketAddr::new(listen.ip(), 0));
        }
        DemoFault::Listen(listen, error)
    })
}

fn settings(
    listen: SocketAddr,
    backend: SocketAddr,
    certificate: CertificateSettings,
) -> Result<Settings, Faults> {
    let text = CONFIG
        .replace("{{listen}}", &listen.to_string())
        .replace("{{backend}}", &backend.to_string());
    let mut settings = Settings::parse(&text, "demo.toml")?;
    settings.certificates = vec![certificate];
    Ok(settings)
}

const CONFIG: &str = include_str!("demo.toml");

const WELCOME: &str = "\
tidegate demo: https://{{address}}

The certificate was made just now and vouches for itself, so the browser warns first:
choose \"Advanced\" and go on. On the page you can

  Connect, Send        talk to an echo through the proxy, and see the round-trip time
  Chat                 open a second window; the two see each other
  Send too large       one message over the limit of 1 MiB: closed with 1009
  Foreign Origin       a page from elsewhere knocks: refused with 403
  Open too many        one client may hold {{tunnels}} WebSockets: the next is refused with 429
  Drain the demo       a restart: closed with 1012 one after another, then all come back

Each of these leaves a record below, and shows at once on the status page:
http://{{admin}}/status (for Prometheus: /metrics). Ctrl-C ends the demo.
";

/// Signals that may wait for the proxy: to leave, to hurry, and a little more.
const SIGNALS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn leads_to(demo: &Demo) -> SocketAddr {
        let backend = &demo.settings.routes[0].backends[0];
        backend.address.to_string().parse().expect("an address")
    }

    async fn press(backend: SocketAddr) -> String {
        let mut stream = TcpStream::connect(backend).await.expect("listening");
        let head = "POST /demo/drain HTTP/1.1\r\nHost: localhost\r\n\
                    Origin: https://localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    #[tokio::test]
    async fn the_embedded_settings_hold_what_page_and_welcome_say() {
        let demo = Demo::prepare(ANY).await.expect("prepared");
        assert_ne!(demo.address.port(), 0);
        assert_eq!(demo.settings.listeners[0].address, demo.address);
        assert!(demo.settings.listeners[0].tls);
        assert!(press(leads_to(&demo)).await.starts_with("HTTP/1.1 202"));
        let page = Page::of(&demo.settings);
        assert_eq!(page, Page { message_max: 1 << 20, tunnels_max: 32, drain_window_ms: 3000 });
        let welcome = demo.welcome();
        assert!(welcome.contains(&format!("https://{}\n", demo.address)), "{welcome}");
        assert!(welcome.contains(&format!("http://{}/status", demo.admin)), "{welcome}");
        assert_eq!(demo.settings.admin, Some(demo.admin));
        assert!(welcome.contains("hold 32 WebSockets") && !welcome.contains("{{"), "{welcome}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_and_an_address_for_all_are_refused_with_advice() {
        let taken = TcpListener::bind(ANY).expect("a free port");
        let address = taken.local_addr().expect("bound");
        let fault = Demo::prepare(address).await.expect_err("taken").to_string();
        assert!(fault.contains("taken") && fault.contains("--listen 127.0.0.1:0"), "{fault}");

        let open = Demo::prepare("0.0.0.0:0".parse().expect("an address")).await;
        assert!(matches!(open, Err(DemoFault::NotLoopback(_))));
    }

    #[tokio::test]
    async fn a_press_on_the_page_brings_the_same_proxy_back_and_a_stop_ends_all() {
        let demo = Demo::prepare(ANY).await.expect("prepared");
        let (address, backend) = (demo.address, leads_to(&demo));
        let (stop, signals) = mpsc::channel(2);
        let runs = Mutex::new(0);
        let proxy = |settings: Settings, mut told: mpsc::Receiver<Signal>| {
            let run = {
                let mut runs = runs.lock().expect("whole");
                *runs += 1;
                *runs
            };
            let stop = stop.clone();
            async move {
                assert_eq!(settings.listeners[0].address, address);
                match run {
                    1 => assert!(press(backend).await.starts_with("HTTP/1.1 202")),
                    _ => stop.send(Signal::Stop).await.expect("heard"),
                }
                told.recv()
                    .await
                    .filter(|told| *told == Signal::Stop)
                    .map(drop)
                    .ok_or("nobody told")
            }
        };
        demo.run(signals, proxy).await.expect("ended as told");
        assert_eq!(*runs.lock().expect("whole"), 2);
        assert!(TcpStream::connect(backend).await.is_err(), "the backend is still there");
    }

    #[tokio::test]
    async fn a_proxy_that_fails_ends_the_demo_with_its_fault() {
        let demo = Demo::prepare(ANY).await.expect("prepared");
        let (_stop, signals) = mpsc::channel(1);
        assert_eq!(demo.run(signals, |_, _| async { Err("no") }).await, Err("no"));
    }
}
