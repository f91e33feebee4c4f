//! Listening sockets that somebody else opened for this process: the service manager, as
//! sd_listen_fds(3) has it, or the process that this one follows. Clients queue in such a socket also
//! while nobody serves, so that a restart refuses none of them.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use listenfd::ListenFd;
use socket2::SockRef;

use super::handover_channel::HandoverChannel;
use super::socket::Listener;

/// What was inherited. The service manager's are held for as long as the process takes new clients,
/// whether a listener is configured there or not: a reload may remove one and bring it back, and
/// between the two the address is still the service manager's, where nobody else could bind it.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
    strange: Vec<String>,
    elder: Option<HandoverChannel>,
}

/// One of them.
#[derive(Debug)]
struct InheritedSocket {
    socket: TcpListener,
    local: SocketAddr,
    whose: SocketOrigin,
}

#[derive(Debug)]
enum SocketOrigin {
    /// By this name in the socket unit (`FileDescriptorName=`).
    Managers(String),
    /// The elder's own, bound for a listener with this address in its file.
    Elders(SocketAddr),
}

/// A word for a successor, and its socket.
pub type PassedSocket = (String, Option<OwnedFd>);

impl InheritedSockets {
    /// Takes what the elder or the service manager passed to this very process, and forgets how it
    /// said so. To be called before there are threads, because it changes the environment.
    pub fn from_env() -> io::Result<Self> {
        // Also where it is not asked for the library has to forget what is there.
        let passed = Self::from_manager();
        if env::var_os(ELDER).is_some_and(|value| value == "stdin") {
            return Self::from_elder(HandoverChannel::from_stdin()?);
        }
        Ok(passed)
    }

    fn from_manager() -> Self {
        let own = std::process::id().to_string();
        let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == own);
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        let many = passed.len();
        if ours && many > PASSED_MAX {
            let words = format!("LISTEN_FDS says {many} sockets, of which {PASSED_MAX} are taken");
            inherited.strange.push(words);
        }
        // Without a process id the library would take what was meant for another one.
        for index in (0..many.min(PASSED_MAX)).filter(|_| ours) {
            let name = names.next().unwrap_or_default();
            match take(&mut passed, index) {
                Ok((socket, local)) => {
                    let whose = SocketOrigin::Managers(name);
                    inherited.sockets.push(InheritedSocket { socket, local, whose });
                }
                Err(why) => inherited.strange.push(format!("{name:?}: {why}")),
            }
        }
        inherited
    }

    fn from_elder(elder: HandoverChannel) -> io::Result<Self> {
        let mut inherited = Self::default();
        loop {
            let (word, socket) = elder.hear()?;
            let (kind, rest) = word.split_once(' ').unwrap_or((&word, ""));
            let whose = match (kind, rest.parse()) {
                (END, _) => break,
                (MANAGERS, _) => SocketOrigin::Managers(rest.to_owned()),
                (ELDERS, Ok(address)) => SocketOrigin::Elders(address),
                _ => return Err(io::Error::other(format!("the elder said {word:?}"))),
            };
            let socket = TcpListener::from(socket.ok_or(io::ErrorKind::NotFound)?);
            let local = socket.local_addr()?;
            inherited.sockets.push(InheritedSocket { socket, local, whose });
        }
        inherited.elder = Some(elder);
        Ok(inherited)
    }

    /// What a successor needs, in words with their sockets: the service manager's, and our own, each
    /// with the address that its listener has in the file.
    pub fn heirs<'a>(
        &self,
        own: impl Iterator<Item = (SocketAddr, &'a Listener)>,
    ) -> io::Result<Vec<PassedSocket>> {
        let mut heirs = Vec::new();
        for heirloom in &self.sockets {
            if let SocketOrigin::Managers(name) = &heirloom.whose {
                let socket = heirloom.socket.as_fd().try_clone_to_owned()?;
                heirs.push((format!("{MANAGERS} {name}"), Some(socket)));
            }
        }
        for (address, listener) in own.filter(|(_, listener)| !listener.is_inherited()) {
            let socket = listener.as_fd().try_clone_to_owned()?;
            heirs.push((format!("{ELDERS} {address}"), Some(socket)));
        }
        heirs.push((END.to_owned(), None));
        Ok(heirs)
    }

    /// Whether there is a process that waits to be followed.
    pub fn has_elder(&self) -> bool {
        self.elder.is_some()
    }

    /// The process that waits to be followed, if there is one.
    pub fn elder(&mut self) -> Option<HandoverChannel> {
        self.elder.take()
    }

    /// The socket for this address, and whether the service manager has it too. What was the
    /// elder's is given away once.
    pub fn take(&mut self, address: SocketAddr) -> Option<(io::Result<TcpListener>, bool)> {
        let fits = |heirloom: &InheritedSocket| match heirloom.whose {
            SocketOrigin::Managers(_) => same(heirloom.local, address),
            SocketOrigin::Elders(asked) => same(asked, address),
        };
        let place = self.sockets.iter().position(fits)?;
        match self.sockets[place].whose {
            SocketOrigin::Managers(_) => Some((self.sockets[place].socket.try_clone(), true)),
            SocketOrigin::Elders(_) => Some((Ok(self.sockets.remove(place).socket), false)),
        }
    }

    /// Closes what the elder had and the file no longer wants.
    pub fn settle(&mut self) {
        self.sockets.retain(|heirloom| matches!(heirloom.whose, SocketOrigin::Managers(_)));
    }

    /// What cannot be served as it was passed, in words.
    pub fn doubts(&self, wanted: &[SocketAddr]) -> Vec<String> {
        let mut doubts: Vec<String> =
            self.strange.iter().map(|why| format!("{why}; it is left alone")).collect();
        for (index, heirloom) in self.sockets.iter().enumerate() {
            let SocketOrigin::Managers(_) = heirloom.whose else { continue };
            let is_local = |other: &InheritedSocket| same(other.local, heirloom.local);
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

impl fmt::Display for InheritedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whose {
            SocketOrigin::Managers(name) => write!(f, "{name:?} ({})", self.local),
            SocketOrigin::Elders(address) => write!(f, "{address} ({})", self.local),
        }
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

fn takes_both_families(heirloom: &InheritedSocket) -> bool {
    let wildcard = heirloom.local.is_ipv6() && heirloom.local.ip().is_unspecified();
    wildcard && SockRef::from(&heirloom.socket).only_v6().is_ok_and(|only| !only)
}

/// Set to `stdin` where a process follows another one.
pub const ELDER: &str = "TIDEGATE_ELDER";
/// No unit has as many.
const PASSED_MAX: usize = 4096;
const MANAGERS: &str = "managers";
const ELDERS: &str = "elders";
const END: &str = "end";

#[cfg(test)]
impl InheritedSockets {
    /// As if these had been passed.
    pub fn of(sockets: Vec<TcpListener>) -> Self {
        let heirloom = |socket: TcpListener| {
            let local = socket.local_addr().unwrap();
            InheritedSocket { socket, local, whose: SocketOrigin::Managers("test".into()) }
        };
        Self { sockets: sockets.into_iter().map(heirloom).collect(), ..Self::default() }
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
        let mut inherited = InheritedSockets::of(vec![socket]);
        for _ in 0..2 {
            let (found, managers) = inherited.take(local).unwrap();
            let found = found.unwrap();
            assert!(managers);
            assert_eq!(found.local_addr().unwrap(), local);
        }
        assert!(inherited.take("127.0.0.1:1".parse().unwrap()).is_none());
        inherited.let_go();
        assert!(inherited.take(local).is_none());
        assert!(TcpListener::bind(local).is_ok(), "nobody holds it any more");
    }

    #[tokio::test]
    async fn a_successor_has_what_its_elder_had() {
        let managers = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = managers.local_addr().unwrap();
        let mut elder = InheritedSockets::of(vec![managers]);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let kept = Listener::open(address, &mut elder).unwrap();
        let own = [(); 2].map(|()| Listener::open(any, &mut InheritedSockets::default()).unwrap());
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let listeners = [(address, &kept), (any, &own[0]), (any, &own[1])];
        for (word, socket) in elder.heirs(listeners.into_iter()).unwrap() {
            ours.say(&word, socket.as_ref().map(OwnedFd::as_fd)).unwrap();
        }
        let mut heir = InheritedSockets::from_elder(HandoverChannel::of(theirs)).unwrap();
        assert!(heir.elder().is_some());
        // In their order, and each once.
        for listener in own {
            let taken = Listener::open(any, &mut heir).unwrap();
            assert_eq!((taken.local(), taken.is_inherited()), (listener.local(), false));
        }
        assert!(heir.take(any).is_none());
        heir.settle();
        let taken = Listener::open(address, &mut heir).unwrap();
        assert!(taken.is_inherited());
    }

    #[test]
    fn what_nobody_wants_and_what_comes_twice_is_told() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let (wanted, other) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        let again = one.try_clone().unwrap();
        let inherited = InheritedSockets::of(vec![one, two, again]);
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
            let doubts = InheritedSockets::of(vec![socket]).doubts(&[local]);
            assert_eq!(doubts.len(), told, "{doubts:?}");
            assert!(doubts.iter().all(|doubt| doubt.contains("BindIPv6Only")), "{doubts:?}");
        }
    }
}
