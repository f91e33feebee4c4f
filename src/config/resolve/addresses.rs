//! Which addresses tidegate itself listens on: no two of them may clash, and no backend may be one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::toml::diagnostic::KeyPath;
use crate::config::values::patterns::BackendAddress;

/// Addresses that are taken, and by which key. Port 0 takes nothing: the system chooses.
#[derive(Default)]
pub(crate) struct Addresses {
    exact: HashMap<SocketAddr, KeyPath>,
    /// By port and family: `0.0.0.0` and `[::]`. IPv6 sockets take IPv6 only.
    every: HashMap<(u16, bool), (SocketAddr, KeyPath)>,
    /// By port and family: the first one of any kind.
    some: HashMap<(u16, bool), (SocketAddr, KeyPath)>,
}

impl Addresses {
    /// Takes an address; if it clashes with one that is taken, says which, and where that stands.
    pub(crate) fn take(
        &mut self,
        address: SocketAddr,
        place: &KeyPath,
    ) -> Result<(), (SocketAddr, KeyPath)> {
        if address.port() == 0 {
            return Ok(());
        }
        let family = (address.port(), address.is_ipv6());
        if let Some(place) = self.exact.get(&address) {
            return Err((address, place.clone()));
        }
        let clash = match address.ip().is_unspecified() {
            true => self.some.get(&family),
            false => self.every.get(&family),
        };
        if let Some((other, place)) = clash {
            return Err((*other, place.clone()));
        }
        self.exact.insert(address, place.clone());
        self.some.entry(family).or_insert_with(|| (address, place.clone()));
        if address.ip().is_unspecified() {
            self.every.insert(family, (address, place.clone()));
        }
        Ok(())
    }

    /// The key of our own listener that a connection to this backend would surely reach.
    pub(crate) fn reached_by(&self, backend: &BackendAddress) -> Option<&KeyPath> {
        let ips = match backend.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) if backend.host == "localhost" => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => Vec::new(),
        };
        ips.into_iter().find_map(|ip| {
            // The system takes a connection to 0.0.0.0 as one to itself.
            let ip = match ip {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                IpAddr::V4(_) | IpAddr::V6(_) => ip.to_canonical(),
            };
            let exact = self.exact.get(&SocketAddr::new(ip, backend.port));
            let every =
                || self.every.get(&(backend.port, ip.is_ipv6())).filter(|_| ip.is_loopback());
            exact.or_else(|| every().map(|(_, place)| place))
        })
    }
}
