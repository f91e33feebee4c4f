//! Prepares the addresses, the configuration, the certificate and the backend socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::certificate::Certificate;

/// The parts that are ready before the proxy starts.
#[derive(Debug)]
pub struct Setup {
    /// The proxy's address; the port was free a moment ago.
    pub address: SocketAddr,
    /// The address of the status page and the metrics; the port was free a moment ago.
    pub admin: SocketAddr,
    /// The proxy's configuration in TOML. Its certificate files do not exist; after parsing,
    /// [`Setup::certificate`] replaces them.
    pub configuration: String,
    /// The certificate for the loopback names.
    pub certificate: Certificate,
    /// The socket of the backend, already bound.
    pub backend: TcpListener,
}

impl Setup {
    /// Chooses the addresses, binds the backend's socket and generates the certificate. With port 0
    /// the system chooses the port.
    ///
    /// # Errors
    /// Fails if `listen` is not a loopback address or cannot be bound, if the backend's socket
    /// cannot be bound, or if the certificate cannot be generated.
    pub async fn new(listen: SocketAddr) -> Result<Self, Error> {
        let address = free_address(listen)?;
        let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Backend)?;
        let backend_address = backend.local_addr().map_err(Error::Backend)?;
        let admin = free_address(SocketAddr::new(listen.ip(), 0))?;
        let configuration = CONFIGURATION
            .replace("{{listen}}", &address.to_string())
            .replace("{{backend}}", &backend_address.to_string());
        let certificate = Certificate::generate()?;
        Ok(Self { address, admin, configuration, certificate, backend })
    }
}

/// The reasons why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The page can drain the proxy without a password, so other machines must not reach it.
    #[error("{0} is not a loopback address; the demo listens only on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// Another process listens on the first address; the second one, with port 0, always works.
    #[error(
        "{0} is already in use, perhaps by another demo; stop that one, or choose another port: \
         tidegate demo --listen {1}"
    )]
    InUse(SocketAddr, SocketAddr),
    /// The address cannot be bound for another reason.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The backend's socket cannot be bound.
    #[error("the demo's backend cannot listen on 127.0.0.1")]
    Backend(#[source] io::Error),
    /// The certificate cannot be generated.
    #[error("cannot generate the demo's certificate")]
    Certificate(#[from] rcgen::Error),
}

/// The text for the terminal. `tunnels` is the maximum number of tunnels per client.
pub fn welcome(address: SocketAddr, admin: SocketAddr, tunnels: usize) -> String {
    WELCOME
        .replace("{{address}}", &address.to_string())
        .replace("{{admin}}", &admin.to_string())
        .replace("{{tunnels}}", &tunnels.to_string())
}

/// Resolves port 0 to a free port by binding it briefly, so that the address can be printed, and a
/// port in use reported, before the proxy starts.
fn free_address(listen: SocketAddr) -> Result<SocketAddr, Error> {
    if !listen.ip().is_loopback() {
        return Err(Error::NotLoopback(listen));
    }
    let bound = std::net::TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return Error::InUse(listen, SocketAddr::new(listen.ip(), 0));
        }
        Error::Listen(listen, error)
    })
}

const CONFIGURATION: &str = include_str!("demo.toml");

const WELCOME: &str = "\
tidegate demo: https://{{address}}

The certificate was generated just now and is self-signed, so the browser warns first: choose
\"Advanced\" and continue. The page offers

  Connect, Send        an echo through the proxy, with the round-trip time
  Chat                 a chat between browser windows; open a second one
  Send too large       a message over the limit of 1 MiB: closed with 1009
  Foreign Origin       a WebSocket from another site's page: rejected with 403
  Open too many        one client may have {{tunnels}} WebSockets: the next is rejected with 429
  Drain the demo       a restart: connections are closed with 1012 one by one, then reconnect

Each of these writes a record below and appears at once on the status page:
http://{{admin}}/status (for Prometheus: /metrics). Ctrl-C ends the demo.
";

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn fills_in_addresses_everywhere() {
        let setup = Setup::new(LOOPBACK).await.expect("prepared");
        assert_ne!(setup.address.port(), 0);
        let backend = setup.backend.local_addr().expect("bound");
        for address in [setup.address, backend] {
            let quoted = format!("address = \"{address}\"");
            assert!(setup.configuration.contains(&quoted), "{}", setup.configuration);
        }
        assert!(!setup.configuration.contains("= \"{{"), "{}", setup.configuration);

        let welcome = welcome(setup.address, setup.admin, 32);
        assert!(welcome.contains(&format!("https://{}\n", setup.address)), "{welcome}");
        assert!(welcome.contains(&format!("http://{}/status", setup.admin)), "{welcome}");
        assert!(welcome.contains("have 32 WebSockets") && !welcome.contains("{{"), "{welcome}");
    }

    #[tokio::test]
    async fn rejects_used_ports_and_public_addresses_with_advice() {
        let taken = std::net::TcpListener::bind(LOOPBACK).expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = Setup::new(address).await.expect_err("in use").to_string();
        assert!(error.contains("in use") && error.contains("--listen 127.0.0.1:0"), "{error}");

        let public = Setup::new("0.0.0.0:0".parse().expect("an address")).await;
        assert!(matches!(public, Err(Error::NotLoopback(_))));
    }
}
