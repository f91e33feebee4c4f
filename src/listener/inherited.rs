//! Listening sockets that another process opened for this one: the service manager (sd_listen_fds(3))
//! or the predecessor in a handover. Connections queue in such a socket while no process accepts, so
//! that a restart refuses none of them.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use listenfd::ListenFd;
use socket2::SockRef;

use super::handover_channel::HandoverChannel;

/// All inherited sockets. Sockets of the service manager stay open while the process accepts
/// connections, even without a listener for them: a reload may remove a listener and restore it, and
/// in between no other process could bind the address anyway.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
    /// Why some of the passed file descriptors cannot be used.
    unusable: Vec<String>,
    predecessor: Option<HandoverChannel>,
}

#[derive(Debug)]
struct InheritedSocket {
    socket: TcpListener,
    local: SocketAddr,
    origin: SocketOrigin,
}

#[derive(Debug)]
enum SocketOrigin {
    /// The service manager, with the name from the socket unit (`FileDescriptorName=`).
    ServiceManager(String),
    /// The predecessor, which bound it for a listener with this configured address.
    Predecessor(SocketAddr),
}

/// One message of a handover to the successor, and the socket that it announces, if any.
pub type HandoverMessage = (String, Option<OwnedFd>);

impl InheritedSockets {
    /// Takes the sockets that the predecessor or the service manager passed to this process, and
    /// removes the environment variables that announced them. Must be called before the process has
    /// threads, because it changes the environment.
    ///
    /// # Errors
    /// The predecessor ended or sent an unknown message.
    pub fn from_env() -> io::Result<Self> {
        // Called in any case, because it removes the variables of the service manager.
        let passed = Self::from_service_manager();
        if env::var_os(PREDECESSOR_VARIABLE).is_some_and(|value| value == "stdin") {
            return Self::from_predecessor(HandoverChannel::from_stdin()?);
        }
        Ok(passed)
    }

    fn from_service_manager() -> Self {
        let own = std::process::id().to_string();
        let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == own);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        let count = passed.len();
        if ours && count > PASSED_MAX {
            inherited.unusable.push(format!(
                "LISTEN_FDS announces {count} sockets, only the first {PASSED_MAX} are used"
            ));
        }
        // Without LISTEN_PID the library would take sockets that were meant for another process.
        for index in (0..count.min(PASSED_MAX)).filter(|_| ours) {
            let name = names.next().unwrap_or_default();
            match take_socket(&mut passed, index) {
                Ok((socket, local)) => {
                    let origin = SocketOrigin::ServiceManager(name);
                    inherited.sockets.push(InheritedSocket { socket, local, origin });
                }
                Err(error) => inherited.unusable.push(format!("{name:?}: {error}")),
            }
        }
        inherited
    }

    fn from_predecessor(predecessor: HandoverChannel) -> io::Result<Self> {
        let mut inherited = Self::default();
        loop {
            let (message, socket) = predecessor.recv()?;
            let (kind, rest) = message.split_once(' ').unwrap_or((&message, ""));
            let origin = match (kind, rest.parse()) {
                (END, _) => break,
                (SERVICE_MANAGER, _) => SocketOrigin::ServiceManager(rest.to_owned()),
                (PREDECESSOR, Ok(address)) => SocketOrigin::Predecessor(address),
                _ => {
                    return Err(io::Error::other(format!(
                        "handover: unknown message from the predecessor: {message:?}"
                    )));
                }
            };
            let socket = TcpListener::from(socket.ok_or(io::ErrorKind::NotFound)?);
            let local = socket.local_addr()?;
            inherited.sockets.push(InheritedSocket { socket, local, origin });
        }
        inherited.predecessor = Some(predecessor);
        Ok(inherited)
    }

    /// The messages and sockets for a successor: the sockets of the service manager, then `own`, the
    /// sockets that are not inherited from it, each with the configured address of its listener.
    ///
    /// # Errors
    /// File descriptors ran out.
    pub fn for_successor<'a>(
        &self,
        own: impl Iterator<Item = (SocketAddr, BorrowedFd<'a>)>,
    ) -> io::Result<Vec<HandoverMessage>> {
        let mut passed = Vec::new();
        for inherited in &self.sockets {
            if let SocketOrigin::ServiceManager(name) = &inherited.origin {
                let socket = inherited.socket.as_fd().try_clone_to_owned()?;
                passed.push((format!("{SERVICE_MANAGER} {name}"), Some(socket)));
            }
        }
        for (address, socket) in own {
            let socket = socket.try_clone_to_owned()?;
            passed.push((format!("{PREDECESSOR} {address}"), Some(socket)));
        }
        passed.push((END.to_owned(), None));
        Ok(passed)
    }

    /// Whether a predecessor waits for this process to become ready.
    pub fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Takes the channel to the predecessor, if there is one.
    pub fn take_predecessor(&mut self) -> Option<HandoverChannel> {
        self.predecessor.take()
    }

    /// The socket for this configured address, and whether the service manager holds it as well. A
    /// socket of the predecessor is returned once, one of the service manager is duplicated.
    pub fn take(&mut self, address: SocketAddr) -> Option<(io::Result<TcpListener>, bool)> {
        let matches = |inherited: &InheritedSocket| match inherited.origin {
            SocketOrigin::ServiceManager(_) => same_address(inherited.local, address),
            SocketOrigin::Predecessor(configured) => same_address(configured, address),
        };
        let index = self.sockets.iter().position(matches)?;
        match self.sockets[index].origin {
            SocketOrigin::ServiceManager(_) => Some((self.sockets[index].socket.try_clone(), true)),
            SocketOrigin::Predecessor(_) => Some((Ok(self.sockets.remove(index).socket), false)),
        }
    }

    /// Closes sockets of the predecessor that no listener has taken.
    pub fn close_unclaimed(&mut self) {
        self.sockets
            .retain(|inherited| matches!(inherited.origin, SocketOrigin::ServiceManager(_)));
    }

    /// Warnings about sockets of the service manager that are not used as passed. `wanted` are the
    /// addresses of all listeners.
    pub fn warnings(&self, wanted: &[SocketAddr]) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.unusable.iter().map(|problem| format!("{problem}; it is ignored")).collect();
        for (index, inherited) in self.sockets.iter().enumerate() {
            let SocketOrigin::ServiceManager(_) = inherited.origin else { continue };
            let is_same = |other: &InheritedSocket| same_address(other.local, inherited.local);
            if self.sockets[..index].iter().any(is_same) {
                warnings.push(format!("{inherited}: it was passed twice; the first one is used"));
            } else if !wanted.iter().any(|address| same_address(*address, inherited.local)) {
                warnings.push(format!(
                    "{inherited}: no listener has this address, so connections to it are never \
                     accepted; add a [[listener]] or remove it from the socket unit"
                ));
            } else if accepts_both_families(inherited) {
                warnings.push(format!(
                    "{inherited}: it accepts IPv4 as well; set BindIPv6Only=ipv6-only in the \
                     socket unit"
                ));
            }
        }
        warnings
    }

    /// Closes all inherited sockets. Connections that wait in a socket stay there for the other
    /// processes that hold it.
    pub fn close(&mut self) {
        self.sockets.clear();
    }
}

impl fmt::Display for InheritedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            SocketOrigin::ServiceManager(name) => write!(f, "{name:?} ({})", self.local),
            SocketOrigin::Predecessor(address) => write!(f, "{address} ({})", self.local),
        }
    }
}

fn take_socket(passed: &mut ListenFd, index: usize) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match passed.take_tcp_listener(index) {
        Ok(socket) => socket,
        Err(error) => {
            // Taking it as a socket of its actual kind closes it.
            let _ = passed.take_unix_listener(index);
            let _ = passed.take_unix_datagram(index);
            let _ = passed.take_udp_socket(index);
            return Err(error);
        }
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    if !SockRef::from(&socket).is_listener()? {
        return Err(io::Error::other(
            "it is not a listening socket; remove Accept=yes from the socket unit",
        ));
    }
    let local = socket.local_addr()?;
    Ok((socket, local))
}

/// Compares IP address and port; the flow label and scope of IPv6 do not identify a listener.
fn same_address(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

fn accepts_both_families(inherited: &InheritedSocket) -> bool {
    let wildcard = inherited.local.is_ipv6() && inherited.local.ip().is_unspecified();
    wildcard && SockRef::from(&inherited.socket).only_v6().is_ok_and(|only| !only)
}

/// Environment variable that a predecessor sets to `stdin` for its successor.
pub const PREDECESSOR_VARIABLE: &str = "TIDEGATE_PREDECESSOR";
/// Bounds the work for a bogus LISTEN_FDS; no socket unit has as many sockets.
const PASSED_MAX: usize = 4096;
const SERVICE_MANAGER: &str = "service-manager";
const PREDECESSOR: &str = "predecessor";
const END: &str = "end";

#[cfg(test)]
impl InheritedSockets {
    /// Sockets as if the service manager had passed them.
    pub fn of(sockets: Vec<TcpListener>) -> Self {
        let inherited = |socket: TcpListener| {
            let local = socket.local_addr().unwrap();
            InheritedSocket { socket, local, origin: SocketOrigin::ServiceManager("test".into()) }
        };
        Self { sockets: sockets.into_iter().map(inherited).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::listener::socket::Listener;

    #[test]
    fn service_manager_socket_can_be_taken_repeatedly() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut inherited = InheritedSockets::of(vec![socket]);
        for _ in 0..2 {
            let (found, is_shared) = inherited.take(local).unwrap();
            let found = found.unwrap();
            assert!(is_shared);
            assert_eq!(found.local_addr().unwrap(), local);
        }
        assert!(inherited.take("127.0.0.1:1".parse().unwrap()).is_none());
        inherited.close();
        assert!(inherited.take(local).is_none());
        assert!(TcpListener::bind(local).is_ok(), "no process holds the socket any more");
    }

    #[tokio::test]
    async fn successor_gets_the_sockets_of_its_predecessor() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        let mut predecessor = InheritedSockets::of(vec![passed]);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let kept = Listener::bind_or_inherit(address, &mut predecessor).unwrap();
        let own = [(); 2]
            .map(|()| Listener::bind_or_inherit(any, &mut InheritedSockets::default()).unwrap());
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        assert!(kept.is_shared());
        let sockets = own.each_ref().map(|listener| (any, listener.as_fd()));
        for (message, socket) in predecessor.for_successor(sockets.into_iter()).unwrap() {
            ours.send(&message, socket.as_ref().map(OwnedFd::as_fd)).unwrap();
        }
        let channel = HandoverChannel::from_fd(theirs);
        let mut successor = InheritedSockets::from_predecessor(channel).unwrap();
        assert!(successor.take_predecessor().is_some());
        // Each socket once, in order.
        for listener in own {
            let taken = Listener::bind_or_inherit(any, &mut successor).unwrap();
            assert_eq!((taken.local_addr(), taken.is_shared()), (listener.local_addr(), false));
        }
        assert!(successor.take(any).is_none());
        successor.close_unclaimed();
        let taken = Listener::bind_or_inherit(address, &mut successor).unwrap();
        assert!(taken.is_shared());
    }

    #[test]
    fn warns_about_unused_and_duplicate_sockets() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let (wanted, other) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        let again = one.try_clone().unwrap();
        let inherited = InheritedSockets::of(vec![one, two, again]);
        let warnings = inherited.warnings(&[wanted]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains(&other.to_string()) && warnings[0].contains("no listener"));
        assert!(warnings[1].contains(&wanted.to_string()) && warnings[1].contains("twice"));
    }

    #[test]
    fn warns_about_an_ipv6_socket_that_accepts_ipv4() {
        for (only, count) in [(true, 0), (false, 1)] {
            let Ok(socket) = Socket::new(Domain::IPV6, Type::STREAM, None) else { return };
            socket.set_only_v6(only).unwrap();
            let wildcard: SocketAddr = "[::]:0".parse().unwrap();
            socket.bind(&wildcard.into()).unwrap();
            socket.listen(1).unwrap();
            let socket = TcpListener::from(socket);
            let local = socket.local_addr().unwrap();
            let warnings = InheritedSockets::of(vec![socket]).warnings(&[local]);
            assert_eq!(warnings.len(), count, "{warnings:?}");
            assert!(warnings.iter().all(|text| text.contains("BindIPv6Only")), "{warnings:?}");
        }
    }
}
