//! Appends what rustls encodes to a buffer that grows as required.

use rustls::Error as TlsError;
use rustls::unbuffered::{EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError};

use crate::net::scratch::WriteBuffer;

/// Appends a pending record of the TLS layer to `out`.
pub(super) fn encode<Data>(
    mut data: EncodeTlsData<'_, Data>,
    out: &mut WriteBuffer,
) -> Result<(), TlsError> {
    append(out, RECORD_OVERHEAD_BYTES, |spare| match data.encode(spare) {
        Ok(len) => Ok(len),
        Err(EncodeError::InsufficientSize(size)) => Err(EncryptError::InsufficientSize(size)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
    })
}

/// Appends the output of `write`, first with `min_len` bytes of space, then with the size it requires.
pub(super) fn append(
    out: &mut WriteBuffer,
    min_len: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let mut min_len = min_len;
    for _ in 0..2 {
        match write(out.spare(min_len)) {
            Ok(len) => {
                out.advance(len);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                min_len = required_size;
            }
            Err(EncryptError::EncryptExhausted) => return Err(TlsError::EncryptError),
        }
    }
    Err(unexpected_state())
}

/// For states that the API of rustls allows, but that cannot occur as it is used here.
pub(super) fn unexpected_state() -> TlsError {
    TlsError::General("unexpected state of the TLS connection".to_owned())
}

/// Upper bound for the overhead of a record: header, explicit nonce (TLS 1.2), inner type, tag.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 48;
