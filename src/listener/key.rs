//! Identity of a listener across reloads: its address, not its name.

use std::net::SocketAddr;

use crate::config::settings::ListenerSettings;

/// A listener by its address as configured, and its place among those with the same one (only
/// port 0 may repeat). Names may change over a reload; the socket behind an address stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The address as configured; port 0 is chosen by the kernel.
    pub address: SocketAddr,
    /// Position among the listeners with the same address.
    pub place: usize,
}

/// The listeners with their keys.
pub fn listener_keys(
    listeners: &[ListenerSettings],
) -> impl Iterator<Item = (ListenerKey, &ListenerSettings)> {
    listeners.iter().enumerate().map(|(index, listener)| {
        let address = listener.address;
        let place = listeners[..index].iter().filter(|other| other.address == address).count();
        (ListenerKey { address, place }, listener)
    })
}
