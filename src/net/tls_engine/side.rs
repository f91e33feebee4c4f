//! What the two sides of a connection have in common, which rustls implements for each separately.

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;

/// A connection of rustls that owns no buffers.
pub trait RustlsConnection: Unpin {
    /// What rustls keeps for this side.
    type Data;

    /// Maximum length of an incomplete message of the peer during the handshake, in records.
    const HANDSHAKE_BYTES_MAX: usize;

    /// Processes the records at the front of `input` up to the next state.
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What both sides know of a connection.
    fn common_state(&self) -> &CommonState;
}

impl RustlsConnection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    /// A ClientHello takes less than 3 KiB, with the keys of post-quantum exchanges and a ticket; BoringSSL accepts none
    /// above 16 KiB.
    const HANDSHAKE_BYTES_MAX: usize = 14 * 1024;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common_state(&self) -> &CommonState {
        self
    }
}

impl RustlsConnection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    /// Certificates may be long.
    const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn common_state(&self) -> &CommonState {
        self
    }
}
