//! Two minimal relays as the lower bound in `benches/peers`: the least that relaying bytes costs.
//! They do not parse HTTP or WebSockets.
//!
//! - `bare-relay tcp --backend ADDR [--corrupt EVERY_BYTES]`: a bare TCP relay. With `--corrupt` it
//!   corrupts bytes sent to the client, to check that a load generator detects it.
//! - `bare-relay tls --backend ADDR --chain FILE --key FILE`: a relay that terminates TLS with rustls.
//!
//! Each worker (`--workers N`) is one thread with one epoll instance and its own listening socket,
//! reads 64 KiB at a time, and connects to the backend on accept. Prints `listening ADDR`.

#![expect(clippy::print_stdout, reason = "prints its address")]

mod relay;
mod tcp;
mod tls;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use socket2::{Domain, Protocol, Socket, Type};

use crate::relay::{Relay, Transport};

#[derive(Parser)]
#[command(about = "Minimal relays: the lower bound of a comparison")]
struct Cli {
    #[command(subcommand)]
    protocol: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay bytes unchanged
    Tcp {
        #[command(flatten)]
        options: Options,
        /// Flip one bit in every N bytes sent to the client
        #[arg(long)]
        corrupt: Option<u64>,
    },
    /// Terminate TLS 1.3 and relay the plaintext
    Tls {
        #[command(flatten)]
        options: Options,
        /// Certificate chain in PEM, server certificate first
        #[arg(long)]
        chain: PathBuf,
        /// Private key in PEM
        #[arg(long)]
        key: PathBuf,
    },
}

#[derive(Args)]
struct Options {
    /// Address of the backend
    #[arg(long)]
    backend: SocketAddr,
    /// Listening address; port 0 selects a free port
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Number of independent threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> io::Result<()> {
    raise_descriptors()?;
    match Cli::parse().protocol {
        Command::Tcp { options, corrupt } => serve(&options, move || tcp::Tcp::new(corrupt)),
        Command::Tls { options, chain, key } => {
            let config = tls::config(&chain, &key)?;
            serve(&options, move || tls::Tls::new(config.clone()))
        }
    }
}

/// Runs one relay per worker; `transport` creates the state of a worker.
fn serve<R: Transport>(options: &Options, transport: impl Fn() -> R + Sync) -> io::Result<()> {
    let first = listen(options.listen)?;
    let at = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < options.workers {
        listeners.push(listen(at)?);
    }
    println!("listening {at}");
    io::stdout().flush()?;
    std::thread::scope(|threads| {
        let running: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let (transport, backend) = (&transport, options.backend);
                threads.spawn(move || Relay::new(listener, backend, transport())?.run())
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
    // Accepted sockets inherit it, which saves a system call per connection.
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
