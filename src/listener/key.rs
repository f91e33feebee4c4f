//! The identity of a listener across reloads: its address, not its name.

use std::net::SocketAddr;

use crate::config::settings::ListenerSettings;

/// Identifies a listener. A reload may rename a listener; the socket stays with its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// The address in the configuration, possibly with port 0.
    pub address: SocketAddr,
    /// Position among the listeners with the same address; only addresses with port 0 can repeat.
    pub index: usize,
}

/// Pairs each listener with its key.
pub fn listener_keys(
    listeners: &[ListenerSettings],
) -> impl Iterator<Item = (ListenerKey, &ListenerSettings)> {
    listeners.iter().enumerate().map(|(index, listener)| {
        let address = listener.address;
        let index = listeners[..index].iter().filter(|other| other.address == address).count();
        (ListenerKey { address, index }, listener)
    })
}
