//! Between a process and the one that follows it: words, and listening sockets, over a pair of Unix
//! sockets that keep messages apart. The successor's end is its standard input.

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

/// One end.
#[derive(Debug)]
pub struct HandoverChannel(OwnedFd);

impl HandoverChannel {
    /// Both ends; the second is for another process.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that this process was started with; its standard input is empty from then on.
    pub fn from_stdin() -> io::Result<Self> {
        let passage = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self(passage))
    }

    /// Sends a word, perhaps with a socket. Never waits: what does not fit is an error.
    pub fn say(&self, word: &str, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
        if !sockets.is_empty() && !with.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(word.as_bytes())], &mut with, flags)?;
        Ok(())
    }

    /// The next word; `UnexpectedEof` where the other end is gone.
    pub fn hear(&self) -> io::Result<(String, Option<OwnedFd>)> {
        let mut word = [0; WORD_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let slice = &mut [IoSliceMut::new(&mut word)];
        let hear = || recvmsg(&self.0, slice, &mut with, RecvFlags::CMSG_CLOEXEC);
        let length = retry_on_intr(hear)?.bytes;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let socket = with.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            // Those it was not asked for.
            RecvAncillaryMessage::ScmCredentials(_) | _ => None,
        });
        Ok((String::from_utf8_lossy(&word[..length]).into_owned(), socket))
    }

    /// Waits for this word, and no longer than that (`WouldBlock`), whatever signals come meanwhile.
    /// Blocks its thread.
    pub fn expect(&self, wanted: &str, patience: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(NAP))?;
        // What a signal interrupts begins anew, so that naps are counted, not time.
        let mut naps = patience.as_millis() / NAP.as_millis();
        loop {
            match self.hear() {
                Ok((word, _)) if word == wanted => return Ok(()),
                Ok((word, _)) => {
                    return Err(io::Error::other(format!("{word:?} instead of {wanted:?}")));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && naps > 0 => naps -= 1,
                Err(error) => return Err(error),
            }
        }
    }
}

const NAP: Duration = Duration::from_millis(100);

/// Longer than any word.
const WORD_MAX: usize = 1024;

#[cfg(test)]
impl HandoverChannel {
    /// As if this had been the standard input.
    pub fn of(end: OwnedFd) -> Self {
        Self(end)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn words_and_sockets_arrive_apart() {
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let theirs = HandoverChannel(theirs);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        ours.say("one", Some(socket.as_fd())).unwrap();
        ours.say("two", None).unwrap();
        drop(ours);
        let (word, passed) = theirs.hear().unwrap();
        let passed = TcpListener::from(passed.unwrap());
        assert_eq!(word, "one");
        assert_eq!(passed.local_addr().unwrap(), socket.local_addr().unwrap());
        let (word, nothing) = theirs.hear().unwrap();
        assert!(word == "two" && nothing.is_none());
        assert_eq!(theirs.hear().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn silence_is_borne_for_a_while() {
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let error = ours.expect("go", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        HandoverChannel(theirs).say("no", None).unwrap();
        let error = ours.expect("go", Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("\"no\" instead of \"go\""), "{error}");
    }
}
