//! The two floors that proxies are measured against (`benches/peers`): what relaying bytes costs
//! at least. They know nothing of HTTP or WebSockets.
//!
//! - `floor tcp --backend ADDR [--corrupt EVERY_BYTES]`: a bare byte relay; with `--corrupt` it
//!   breaks bytes on the way to the client, to find out whether a load generator notices.
//! - `floor tls --backend ADDR --chain FILE --key FILE`: a bare rustls relay.
//!
//! One thread and one epoll each (`--workers N`: N of them, each with its own listening socket),
//! reads of 64 KiB, the backend dialled at accept. Prints `listening ADDR`.

#![expect(clippy::print_stdout, reason = "where it listens is its answer")]

mod crypto;
mod plain;
mod relay;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use socket2::{Domain, Protocol, Socket, Type};

use crate::relay::{Relay, Route};

#[derive(Parser)]
#[command(about = "Bare relays: the floors of a comparison")]
struct Cli {
    #[command(subcommand)]
    floor: Floor,
}

#[derive(Subcommand)]
enum Floor {
    /// Relays bytes as they are.
    Tcp {
        #[command(flatten)]
        place: Place,
        /// Flips one bit in each so many bytes on their way to the client.
        #[arg(long)]
        corrupt: Option<u64>,
    },
    /// Ends TLS 1.3 and relays what it carries.
    Tls {
        #[command(flatten)]
        place: Place,
        /// PEM, the server's certificate first.
        #[arg(long)]
        chain: PathBuf,
        /// PEM.
        #[arg(long)]
        key: PathBuf,
    },
}

#[derive(Args)]
struct Place {
    /// What every connection is relayed to.
    #[arg(long)]
    backend: SocketAddr,
    /// Port 0: any that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads that share nothing.
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> io::Result<()> {
    raise_descriptors()?;
    match Cli::parse().floor {
        Floor::Tcp { place, corrupt } => serve(&place, move || plain::Plain::new(corrupt)),
        Floor::Tls { place, chain, key } => {
            let config = crypto::config(&chain, &key)?;
            serve(&place, move || crypto::Crypto::new(config.clone()))
        }
    }
}

/// Runs a relay in each worker; `route` makes what a worker's connections have in common.
fn serve<R: Route>(place: &Place, route: impl Fn() -> R + Sync) -> io::Result<()> {
    let first = listen(place.listen)?;
    let at = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < place.workers {
        listeners.push(listen(at)?);
    }
    println!("listening {at}");
    io::stdout().flush()?;
    std::thread::scope(|threads| {
        let running: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let (route, backend) = (&route, place.backend);
                threads.spawn(move || Relay::new(listener, backend, route())?.run())
            })
            .collect();
        running.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
        })
    })
}

fn listen(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it: one call less for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&at.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn raise_descriptors() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
