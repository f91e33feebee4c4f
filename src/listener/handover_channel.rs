//! The channel between a process and its successor: messages, some with a listening socket, over a
//! pair of Unix sockets that preserve message boundaries (`SOCK_SEQPACKET`). The successor gets its
//! end as standard input.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// One end of the channel.
#[derive(Debug)]
pub struct HandoverChannel(OwnedFd);

impl HandoverChannel {
    /// Creates both ends; the second is for the other process.
    ///
    /// # Errors
    /// The system has no file descriptors or memory left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Takes over standard input as the end of this process, and replaces it by `/dev/null`.
    ///
    /// # Errors
    /// Standard input is closed, or file descriptors ran out.
    pub fn from_stdin() -> io::Result<Self> {
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self(channel))
    }

    /// Sends a message, optionally with a socket. Never blocks.
    ///
    /// # Errors
    /// The other end is gone, or its receive buffer is full (`WouldBlock`).
    pub fn send(&self, message: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
        if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(message.as_bytes())], &mut ancillary, flags)?;
        Ok(())
    }

    /// Receives the next message and its socket, if it has one. Blocks the thread.
    ///
    /// # Errors
    /// `UnexpectedEof` if the other end is gone.
    pub fn recv(&self) -> io::Result<(String, Option<OwnedFd>)> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let slice = &mut [IoSliceMut::new(&mut buffer)];
        let recv = || recvmsg(&self.0, slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let length = retry_on_intr(recv)?.bytes;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let socket = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            // Never requested.
            RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        });
        Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), socket))
    }

    /// Waits for the message `wanted`, at most for `timeout`. Blocks the thread.
    ///
    /// # Errors
    /// `WouldBlock` after the timeout, `UnexpectedEof` if the other end is gone, or another message
    /// arrived.
    pub fn expect(&self, wanted: &str, timeout: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(POLL_INTERVAL))?;
        // A signal restarts the timeout of one receive call, so count calls instead of time.
        let mut polls = timeout.as_millis() / POLL_INTERVAL.as_millis();
        loop {
            match self.recv() {
                Ok((message, _)) if message == wanted => return Ok(()),
                Ok((message, _)) => {
                    return Err(io::Error::other(format!(
                        "handover: received {message:?}, expected {wanted:?}"
                    )));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && polls > 0 => polls -= 1,
                Err(error) => return Err(error),
            }
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Receive buffer; longer than any message.
const MESSAGE_BYTES_MAX: usize = 1024;

#[cfg(test)]
impl HandoverChannel {
    /// Uses this end as if it were standard input.
    pub fn from_fd(end: OwnedFd) -> Self {
        Self(end)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn messages_and_sockets_stay_separate() {
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let theirs = HandoverChannel(theirs);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        ours.send("one", Some(socket.as_fd())).unwrap();
        ours.send("two", None).unwrap();
        drop(ours);
        let (message, passed) = theirs.recv().unwrap();
        let passed = TcpListener::from(passed.unwrap());
        assert_eq!(message, "one");
        assert_eq!(passed.local_addr().unwrap(), socket.local_addr().unwrap());
        let (message, nothing) = theirs.recv().unwrap();
        assert!(message == "two" && nothing.is_none());
        assert_eq!(theirs.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn expect_waits_until_the_timeout() {
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let error = ours.expect("go", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        HandoverChannel(theirs).send("no", None).unwrap();
        let error = ours.expect("go", Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("received \"no\", expected \"go\""), "{error}");
    }
}
