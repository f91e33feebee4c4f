//! The addresses tidegate listens on. They must not conflict, and no backend may be one of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::toml::diagnostic::Location;
use crate::config::values::backend_address::BackendAddress;

/// The addresses in use and the keys that use them. Port 0 never conflicts, since the system
/// chooses a free port.
#[derive(Default)]
pub(crate) struct ListenAddresses {
    exact: HashMap<SocketAddr, Location>,
    /// Unspecified addresses (`0.0.0.0` and `[::]`) by port and family; IPv6 sockets are IPv6-only.
    unspecified: HashMap<(u16, bool), (SocketAddr, Location)>,
    /// The first address of each port and family.
    first: HashMap<(u16, bool), (SocketAddr, Location)>,
}

impl ListenAddresses {
    /// Adds an address.
    ///
    /// # Errors
    ///
    /// The address that it conflicts with, and its location.
    pub(crate) fn insert(
        &mut self,
        address: SocketAddr,
        location: &Location,
    ) -> Result<(), (SocketAddr, Location)> {
        if address.port() == 0 {
            return Ok(());
        }
        let family = (address.port(), address.is_ipv6());
        if let Some(location) = self.exact.get(&address) {
            return Err((address, location.clone()));
        }
        let conflict = match address.ip().is_unspecified() {
            true => self.first.get(&family),
            false => self.unspecified.get(&family),
        };
        if let Some((other, location)) = conflict {
            return Err((*other, location.clone()));
        }
        self.exact.insert(address, location.clone());
        self.first.entry(family).or_insert_with(|| (address, location.clone()));
        if address.ip().is_unspecified() {
            self.unspecified.insert(family, (address, location.clone()));
        }
        Ok(())
    }

    /// The key of the listener that a connection to this backend would certainly reach.
    pub(crate) fn reached_by(&self, backend: &BackendAddress) -> Option<&Location> {
        let BackendAddress::Tcp { host, port } = backend else { return None };
        let ips = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) if host.trim_end_matches('.') == "localhost" => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => Vec::new(),
        };
        ips.into_iter().find_map(|ip| {
            // The system treats a connection to 0.0.0.0 as one to the loopback address.
            let ip = match ip {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                IpAddr::V4(_) | IpAddr::V6(_) => ip.to_canonical(),
            };
            let exact = self.exact.get(&SocketAddr::new(ip, *port));
            let unspecified =
                || self.unspecified.get(&(*port, ip.is_ipv6())).filter(|_| ip.is_loopback());
            exact.or_else(|| unspecified().map(|(_, location)| location))
        })
    }
}
