//! The addresses of this machine from which the backends of a pool are reached. Each of them has local ports of its own
//! for each address of a backend.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::config::settings::Settings;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::net::network::{Net, TargetAddr};
use crate::net::socket::Socket;

/// The addresses, used in turn.
#[derive(Debug)]
pub struct SourceAddresses {
    addresses: Vec<IpAddr>,
    next: AtomicUsize,
}

impl SourceAddresses {
    /// The addresses of a pool; `None` if the system chooses one.
    pub fn new(addresses: &[IpAddr]) -> Option<Arc<Self>> {
        let addresses = addresses.to_vec();
        (!addresses.is_empty()).then(|| Arc::new(Self { addresses, next: AtomicUsize::new(0) }))
    }

    /// Number of addresses from which `to` can be reached; at least 1, since the system chooses one if none has its
    /// family.
    pub fn count_for(&self, to: IpAddr) -> usize {
        self.fitting(to).count().max(1)
    }

    /// Connects to `to` from the next address of its family. If that has no local port left, or is not an address of
    /// this machine any more, the others are tried. The caller enforces the deadline.
    ///
    /// # Errors
    /// As [`Net::connect`].
    pub async fn connect(&self, net: &dyn Net, to: SocketAddr) -> io::Result<Socket> {
        let count = self.fitting(to.ip()).count();
        if count == 0 {
            return net.connect(&TargetAddr::Tcp(to)).await;
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let in_turn = self.fitting(to.ip()).cycle().skip(first).take(count);
        let mut last = io::Error::from(Errno::ADDRNOTAVAIL);
        for from in in_turn {
            match net.connect_from(from, to).await {
                Err(error) if has_no_source(&error) => last = error,
                connected => return connected,
            }
        }
        Err(last)
    }

    fn fitting(&self, to: IpAddr) -> impl Iterator<Item = IpAddr> + Clone {
        self.addresses.iter().copied().filter(move |from| from.is_ipv6() == to.is_ipv6())
    }
}

/// The addresses in the configuration that this machine does not have.
pub fn missing(settings: &Settings) -> Vec<LateDiagnostic> {
    let pools = settings.pools.iter().enumerate();
    let addresses = pools.flat_map(|(pool, of)| {
        of.bind.iter().enumerate().map(move |(index, address)| (pool, index, *address))
    });
    let missing = |(pool, index, address): (usize, usize, IpAddr)| {
        let error = UdpSocket::bind((address, 0)).err()?;
        let key = format!("pool[{pool}].bind[{index}]");
        let problem = match Errno::from_io_error(&error) {
            Some(Errno::ADDRNOTAVAIL) => format!(
                "{address} is not an address of this machine; add it to an interface, or remove it here"
            ),
            Some(_) | None => format!("{address} cannot be used: {error}"),
        };
        Some(LateDiagnostic { key, problem })
    };
    addresses.filter_map(missing).collect()
}

/// Whether a connection failed because it could come from nowhere: no local port is left, or the machine has lost the
/// address.
pub(super) fn has_no_source(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || Errno::from_io_error(error) == Some(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use super::*;
    use crate::net::network::{NetFuture, SystemNet};

    /// A network in which some sources have no port left, and which refuses all connections.
    #[derive(Debug, Default)]
    struct FullNet {
        full: Vec<IpAddr>,
        tried: Mutex<Vec<Option<IpAddr>>>,
    }

    impl Net for FullNet {
        fn connect<'a>(&'a self, _: &'a TargetAddr) -> NetFuture<'a, Socket> {
            self.tried.lock().unwrap().push(None);
            Box::pin(async { Err(Errno::CONNREFUSED.into()) })
        }

        fn connect_from(&self, from: IpAddr, _: SocketAddr) -> NetFuture<'_, Socket> {
            self.tried.lock().unwrap().push(Some(from));
            let is_full = self.full.contains(&from);
            let errno = if is_full { Errno::ADDRNOTAVAIL } else { Errno::CONNREFUSED };
            Box::pin(async move { Err(errno.into()) })
        }

        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> NetFuture<'a, Vec<SocketAddr>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn fill_random(&self, bytes: &mut [u8]) {
            SystemNet.fill_random(bytes);
        }
    }

    #[tokio::test]
    async fn addresses_take_turns_and_full_ones_are_skipped() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
        let v6 = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
        let to = SocketAddr::from(([192, 0, 2, 9], 1));
        let sources = SourceAddresses::new(&[a, v6, b, c]).unwrap();
        for (full, expected, errno) in [
            (vec![], vec![a], Errno::CONNREFUSED),
            (vec![], vec![b], Errno::CONNREFUSED),
            (vec![c, a], vec![c, a, b], Errno::CONNREFUSED),
            (vec![a, b, c], vec![a, b, c], Errno::ADDRNOTAVAIL),
        ] {
            let net = FullNet { full, ..FullNet::default() };
            let error = sources.connect(&net, to).await.unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(errno));
            let expected: Vec<_> = expected.into_iter().map(Some).collect();
            assert_eq!(*net.tried.lock().unwrap(), expected);
        }
        assert_eq!((sources.count_for(to.ip()), sources.count_for(v6)), (3, 1));
        // The system chooses if no address has the family.
        let (net, v4_only) = (FullNet::default(), SourceAddresses::new(&[a]).unwrap());
        v4_only.connect(&net, (v6, 1).into()).await.unwrap_err();
        assert_eq!(*net.tried.lock().unwrap(), [None]);
        assert_eq!(v4_only.count_for(v6), 1);
    }
}
