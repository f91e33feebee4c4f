//! Why no backend accepted a connection, in the words of the record and of the log.

use std::io;

use rustix::io::Errno;

use super::pool::{Backend, Pool};
use super::source_addresses::has_no_source;
use crate::reject::RejectReason;

/// Why there is no connection to any backend.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectError {
    /// The reason for the response and the metrics.
    pub reason: RejectReason,
    /// The backends that were tried and why each failed, for the record: about 300 characters at most.
    pub detail: String,
}

impl ConnectError {
    /// No attempt has failed yet.
    pub(super) fn new() -> Self {
        Self { reason: RejectReason::NoBackend, detail: String::new() }
    }

    /// No backend of this pool may be tried: those that are not drained are down by their probes.
    pub fn probed_down(pool: &Pool) -> Self {
        let mut error = Self::new();
        for backend in pool
            .backends()
            .iter()
            .filter(|backend| backend.is_down_by_probe() && !backend.is_draining())
        {
            error.push(backend, &backend.problem().unwrap_or_default());
        }
        error
    }

    /// Adds a backend that failed for this cause.
    pub(super) fn push(&mut self, backend: &Backend, cause: &str) {
        let address = backend.address.to_string();
        let name = match *backend.id == *address {
            true => address,
            false => format!("{} ({address})", backend.id),
        };
        if self.detail.len() < DETAIL_MAX {
            let separator = if self.detail.is_empty() { "" } else { "; " };
            self.detail.push_str(&format!("{separator}{name}: {cause}"));
        } else if !self.detail.ends_with(MORE) {
            self.detail.push_str(MORE);
        }
    }

    pub(super) fn with(self, reason: RejectReason) -> Self {
        Self { reason, ..self }
    }
}

/// What a failed connection attempt says about the backend and about this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectFailure {
    /// The backend refused, or could not be reached.
    Backend,
    /// The backend did not answer in time: it cannot be reached, or the queue of its listening socket is full.
    Timeout,
    /// No local port is left for this address, or the machine has lost the addresses in `bind`; a backend at another
    /// address may still work.
    LocalPorts,
    /// This process has no file descriptor or memory left: no backend can be reached.
    LocalResources,
}

pub(super) fn classify(error: &io::Error) -> ConnectFailure {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            ConnectFailure::LocalResources
        }
        Some(_) | None if has_no_source(error) => ConnectFailure::LocalPorts,
        // A lookup that took too long has a message.
        Some(_) | None if is_timeout(error) => ConnectFailure::Timeout,
        Some(_) | None => ConnectFailure::Backend,
    }
}

/// Says that an error is that of a lookup. An error of this machine stays one.
pub(super) fn unresolved(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let cause = match error.kind() == io::ErrorKind::TimedOut {
        true => "no answer in time".to_owned(),
        false => error.to_string().replace("failed to lookup address information: ", ""),
    };
    io::Error::new(error.kind(), format!("the name does not resolve: {cause}"))
}

/// The cause of a failed lookup as an operator would search for it.
pub fn lookup_cause(error: io::Error) -> String {
    cause(&unresolved(error))
}

/// The cause of a failed attempt as an operator would search for it.
pub(super) fn cause(error: &io::Error) -> String {
    let message = error.get_ref().map(ToString::to_string);
    match classify(error) {
        ConnectFailure::LocalPorts => {
            message.unwrap_or_else(|| RejectReason::LocalPorts.to_string())
        }
        ConnectFailure::LocalResources => RejectReason::NoDescriptors.to_string(),
        // Also the end of the time for the attempt.
        ConnectFailure::Timeout => "timed out".to_owned(),
        ConnectFailure::Backend => message.unwrap_or_else(|| without_number(&error.to_string())),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.get_ref().is_none()
}

/// `connection refused` for `Connection refused (os error 111)`.
fn without_number(text: &str) -> String {
    let text = text.split_once(" (os error").map_or(text, |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Bytes of a detail to which no further backend is added.
const DETAIL_MAX: usize = 200;
const MORE: &str = "; and others";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::scripted::backend_at;

    #[test]
    fn local_exhaustion_is_not_a_backend_failure() {
        let classified = |errno: Errno| classify(&io::Error::from(errno));
        assert_eq!(classified(Errno::MFILE), ConnectFailure::LocalResources);
        assert_eq!(classified(Errno::NFILE), ConnectFailure::LocalResources);
        assert_eq!(classified(Errno::ADDRNOTAVAIL), ConnectFailure::LocalPorts);
        assert_eq!(classified(Errno::CONNREFUSED), ConnectFailure::Backend);
        assert_eq!(classified(Errno::HOSTUNREACH), ConnectFailure::Backend);
        assert_eq!(classified(Errno::TIMEDOUT), ConnectFailure::Timeout);
        let lookup = unresolved(Errno::MFILE.into());
        assert_eq!(classify(&lookup), ConnectFailure::LocalResources);
    }

    #[test]
    fn causes_are_plain_words() {
        for (error, expected) in [
            (Errno::CONNREFUSED.into(), "connection refused"),
            (io::ErrorKind::ConnectionRefused.into(), "connection refused"),
            (Errno::HOSTUNREACH.into(), "no route to host"),
            (Errno::TIMEDOUT.into(), "timed out"),
            (io::ErrorKind::TimedOut.into(), "timed out"),
            (
                unresolved(io::ErrorKind::TimedOut.into()),
                "the name does not resolve: no answer in time",
            ),
            (
                unresolved(io::Error::other(
                    "failed to lookup address information: Name or service not known",
                )),
                "the name does not resolve: Name or service not known",
            ),
        ] {
            assert_eq!(cause(&error), expected);
        }
    }

    #[test]
    fn detail_is_bounded() {
        let mut error = ConnectError::new();
        error.push(&backend_at(("127.0.0.1", 9001)), "connection refused");
        assert_eq!(error.detail, "127.0.0.1:9001: connection refused");
        (0..1000).for_each(|_| error.push(&backend_at(("127.0.0.1", 9002)), "timed out"));
        assert!(error.detail.len() < 250 && error.detail.ends_with("; and others"), "{error:?}");
    }
}
