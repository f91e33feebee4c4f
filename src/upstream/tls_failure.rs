//! The causes for which a TLS connection to a backend fails.

use std::error::Error;
use std::fmt;
use std::io;

use crate::reject::backend_tls::BackendTlsFailure;

/// A failed TLS handshake, inside an [`io::Error`].
#[derive(Debug)]
pub(super) struct BackendTlsError {
    failure: BackendTlsFailure,
    /// What exactly is wrong.
    detail: String,
}

impl fmt::Display for BackendTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for BackendTlsError {}

/// The error of a handshake that failed with `error`, which is none if it did not finish in time.
pub(super) fn handshake_error(error: Option<&io::Error>) -> io::Error {
    let inner = error.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref());
    let failure = match (error, inner) {
        (None, _) => BackendTlsFailure::Timeout,
        (Some(_), Some(tls)) => BackendTlsFailure::of(tls),
        (Some(_), None) => BackendTlsFailure::Closed,
    };
    let detail = match (inner, failure) {
        // The text of rustls has names and dates.
        (Some(rustls::Error::InvalidCertificate(error)), _) => format!("{failure} ({error})"),
        (Some(tls), BackendTlsFailure::Other) => format!("{failure}: {tls}"),
        (_, _) => failure.to_string(),
    };
    io::Error::other(BackendTlsError { failure, detail })
}

/// The cause if this is the error of a handshake.
pub(super) fn of_handshake(error: &io::Error) -> Option<BackendTlsFailure> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<BackendTlsError>());
    inner.map(|error| error.failure)
}

/// The cause if the backend ended TLS with an error after the handshake: with TLS 1.3 it checks the client's
/// certificate only then.
pub(super) fn of_exchange(error: &hyper::Error) -> Option<BackendTlsFailure> {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>())?;
    let tls = io.get_ref().and_then(|inner| inner.downcast_ref())?;
    Some(BackendTlsFailure::of(tls))
}
