//! Listening sockets that somebody else opened for this process: the service manager, as
//! sd_listen_fds(3) has it. Clients queue in such a socket also while nobody serves, so that a
//! restart refuses none of them.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// What was inherited. It is held for as long as the process takes new clients, whether a listener
/// is configured there or not: a reload may remove one and bring it back, and between the two the
/// address is still the service manager's, where nobody else could bind it.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Heirloom>,
    strange: Vec<String>,
}

/// One of them.
#[derive(Debug)]
struct Heirloom {
    socket: TcpListener,
    local: SocketAddr,
    /// As the socket unit has it (`FileDescriptorName=`).
    name: String,
}

impl Inherited {
    /// Takes what the service manager passed to this very process, and forgets how it said so. To
    /// be called before there are threads, because it changes the environment.
    pub fn from_env() -> Self {
        let own = std::process::id().to_string();
        let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == own);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        // Without a process id the library would take what was meant for another one.
        for index in (0..passed.len()).filter(|_| ours) {
            let name = names.next().unwrap_or_default();
            match take(&mut passed, index) {
                Ok((socket, local)) => inherited.sockets.push(Heirloom { socket, local, name }),
                Err(why) => inherited.strange.push(format!("{name:?}: {why}")),
            }
        }
        inherited
    }

    /// A handle of the socket that is bound to this address.
    pub fn find(&self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        let found = self.sockets.iter().find(|heirloom| same(heirloom.local, address))?;
        Some(found.socket.try_clone())
    }

    /// What cannot be served as it was passed, in words.
    pub fn doubts(&self, wanted: &[SocketAddr]) -> Vec<String> {
        let mut doubts: Vec<String> =
            self.strange.iter().map(|why| format!("{why}; it is left alone")).collect();
        for (index, heirloom) in self.sockets.iter().enumerate() {
            let is_local = |other: &Heirloom| same(other.local, heirloom.local);
            if self.sockets[..index].iter().any(is_local) {
                doubts.push(format!("{heirloom}: it was passed twice; the first is served"));
            } else if !wanted.iter().any(|address| same(*address, heirloom.local)) {
                doubts.push(format!(
                    "{heirloom}: no listener has this address, so that clients wait there for \
                     nobody; add a [[listener]], or take it out of the socket unit"
                ));
            } else if takes_both_families(heirloom) {
                doubts.push(format!(
                    "{heirloom}: it takes IPv4 as well; say BindIPv6Only=ipv6-only in the socket \
                     unit"
                ));
            }
        }
        doubts
    }

    /// Lets go of all of them; whoever else holds one keeps what waits in it.
    pub fn let_go(&mut self) {
        self.sockets.clear();
    }
}

impl fmt::Display for Heirloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.name, self.local)
    }
}

fn take(passed: &mut ListenFd, index: usize) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match passed.take_tcp_listener(index) {
        Ok(socket) => socket,
        Err(error) => {
            // Made a socket of whatever kind it is, it is closed.
            let _ = passed.take_unix_listener(index);
            let _ = passed.take_unix_datagram(index);
            let _ = passed.take_udp_socket(index);
            return Err(error);
        }
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    if !SockRef::from(&socket).is_listener()? {
        return Err(io::Error::other("it does not listen (Accept=yes is not for tidegate)"));
    }
    let local = socket.local_addr()?;
    Ok((socket, local))
}

/// Flow and scope of IPv6 are no part of what a listener is known by.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

fn takes_both_families(heirloom: &Heirloom) -> bool {
    let wildcard = heirloom.local.is_ipv6() && heirloom.local.ip().is_unspecified();
    wildcard && SockRef::from(&heirloom.socket).only_v6().is_ok_and(|only| !only)
}

#[cfg(test)]
impl Inherited {
    /// As if these had been passed.
    pub fn of(sockets: Vec<TcpListener>) -> Self {
        let heirloom = |socket: TcpListener| {
            let local = socket.local_addr().unwrap();
            Heirloom { socket, local, name: "test".into() }
        };
        Self { sockets: sockets.into_iter().map(heirloom).collect(), strange: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address_again_and_again() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut inherited = Inherited::of(vec![socket]);
        for _ in 0..2 {
            let found = inherited.find(local).unwrap().unwrap();
            assert_eq!(found.local_addr().unwrap(), local);
        }
        assert!(inherited.find("127.0.0.1:1".parse().unwrap()).is_none());
        inherited.let_go();
        assert!(inherited.find(local).is_none());
        assert!(TcpListener::bind(local).is_ok(), "nobody holds it any more");
    }

    #[test]
    fn what_nobody_wants_and_what_comes_twice_is_told() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let (wanted, other) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        let again = one.try_clone().unwrap();
        let inherited = Inherited::of(vec![one, two, again]);
        let doubts = inherited.doubts(&[wanted]);
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(doubts[0].contains(&other.to_string()) && doubts[0].contains("no listener"));
        assert!(doubts[1].contains(&wanted.to_string()) && doubts[1].contains("twice"));
    }

    #[test]
    fn an_ipv6_socket_that_takes_ipv4_is_told() {
        for (only, told) in [(true, 0), (false, 1)] {
            let Ok(socket) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
            socket.set_only_v6(only).unwrap();
            let wildcard: SocketAddr = "[::]:0".parse().unwrap();
            socket.bind(&wildcard.into()).unwrap();
            socket.listen(1).unwrap();
            let socket = TcpListener::from(socket);
            let local = socket.local_addr().unwrap();
            let doubts = Inherited::of(vec![socket]).doubts(&[local]);
            assert_eq!(doubts.len(), told, "{doubts:?}");
            assert!(doubts.iter().all(|doubt| doubt.contains("BindIPv6Only")), "{doubts:?}");
        }
    }
}
