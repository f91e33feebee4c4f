//! Both sides of a session and the transitions that involve both. Timers and the termination reason
//! belong to the session.

use crate::meter::FrameMeter;
use crate::peer::{CloseFrame, Peer, RecvState, SendState};
use crate::side::Side;

/// How the driver must treat the stream of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Keep the stream open.
    KeepOpen,
    /// Send all queued data, then end the write half (close_notify, FIN). Continue to read while
    /// [`Session::wants_read`](crate::Session::wants_read) returns true.
    CloseWrite,
    /// Reset the stream at once and discard queued data.
    Abort,
}

/// Both sides of a session.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) client: Peer,
    pub(crate) backend: Peer,
}

impl Peers {
    pub(crate) fn new(deflate: bool) -> Self {
        Self {
            client: Peer::new(FrameMeter::new(Side::Client, deflate)),
            backend: Peer::new(FrameMeter::new(Side::Backend, deflate)),
        }
    }

    #[inline]
    pub(crate) fn of(&self, side: Side) -> &Peer {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    #[inline]
    pub(crate) fn of_mut(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    /// Whether the bytes sent to a side end with a complete frame.
    pub(crate) fn at_boundary(&self, to: Side) -> bool {
        self.of(to.other()).meter.at_boundary()
    }

    /// Schedules a Close from the proxy at the next frame boundary.
    pub(crate) fn start_close(&mut self, to: Side) {
        let boundary = self.at_boundary(to);
        self.of_mut(to).send = if boundary {
            SendState::CloseReady(CloseFrame::Termination)
        } else {
            SendState::CloseAfterFrame
        };
    }

    /// Whether no message is in progress in either direction.
    pub(crate) fn are_between_messages(&self) -> bool {
        self.client.meter.is_between_messages() && self.backend.meter.is_between_messages()
    }

    /// Schedules a Close from the proxy to both sides once no message is in progress.
    pub(crate) fn start_close_after_messages(&mut self) {
        for side in Side::BOTH {
            self.of_mut(side).send = SendState::CloseAfterMessages;
        }
        self.close_between_messages();
    }

    /// Lets the Close to the sides that wait for the end of messages follow now, if none is in progress.
    pub(crate) fn close_between_messages(&mut self) {
        if !self.are_between_messages() {
            return;
        }
        for side in Side::BOTH {
            let peer = self.of_mut(side);
            if peer.send == SendState::CloseAfterMessages {
                peer.send = SendState::CloseReady(CloseFrame::Termination);
            }
        }
    }

    /// Ends relaying to this side because the other one has ended. If this side waits for an answer
    /// to its Close, the proxy answers; if it is at fault, its Close is due. Within a frame nothing
    /// valid can be sent.
    pub(crate) fn stop_relay(&mut self, to: Side) {
        let boundary = self.at_boundary(to);
        let peer = self.of_mut(to);
        peer.send = match (peer.send, peer.recv) {
            (SendState::Relay, RecvState::CloseReceived(code)) if boundary => {
                SendState::CloseReady(CloseFrame::Reply(code))
            }
            (SendState::CloseAfterRelay | SendState::CloseAfterMessages, _) if boundary => {
                SendState::CloseReady(CloseFrame::Termination)
            }
            (
                SendState::Relay
                | SendState::CloseAfterFrame
                | SendState::CloseAfterRelay
                | SendState::CloseAfterMessages,
                _,
            ) => SendState::Stopped,
            (
                done @ (SendState::CloseReady(_) | SendState::CloseSent(_) | SendState::Stopped),
                _,
            ) => done,
        };
    }

    /// Resets a side and ignores further input from it. A Close that is ready is still sent if the
    /// stream accepts it.
    pub(crate) fn abandon(&mut self, side: Side) {
        self.stop_relay(side.other());
        let peer = self.of_mut(side);
        peer.reset = true;
        match peer.send {
            SendState::Relay
            | SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages => peer.send = SendState::Stopped,
            SendState::CloseReady(_) | SendState::CloseSent(_) | SendState::Stopped => {}
        }
    }

    /// Resets a side that cannot be written to.
    pub(crate) fn reset(&mut self, side: Side) {
        self.abandon(side);
        let peer = self.of_mut(side);
        match peer.send {
            SendState::CloseSent(_) => {}
            SendState::Relay
            | SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages
            | SendState::CloseReady(_)
            | SendState::Stopped => peer.send = SendState::Stopped,
        }
    }

    /// Handles the end of the close grace. A side that waits for an answer to its Close, or is at
    /// fault and has not got its Close, gets it and may still read it; any other side that has not
    /// finished is reset.
    pub(crate) fn expire_grace(&mut self) {
        let relaying = Side::BOTH.map(|side| {
            matches!(
                self.of(side).send,
                SendState::Relay | SendState::CloseAfterRelay | SendState::CloseAfterMessages
            )
        });
        for side in Side::BOTH {
            self.stop_relay(side);
        }
        for (side, relaying) in Side::BOTH.into_iter().zip(relaying) {
            let peer = self.of_mut(side);
            let answered = relaying && matches!(peer.send, SendState::CloseReady(_));
            // RFC 6455 7.1.1: the backend closed properly and only its FIN is missing.
            peer.fin_waived = side == Side::Backend && peer.is_handshake_complete();
            if !peer.is_finished() && !answered {
                self.reset(side);
            }
        }
    }

    /// Whether nothing more is sent to either side or expected from it.
    pub(crate) fn are_finished(&self) -> bool {
        self.client.is_finished() && self.backend.is_finished()
    }

    pub(crate) fn shutdown(&self, side: Side) -> Shutdown {
        let peer = self.of(side);
        let finished = match side {
            // RFC 6455 7.1.1: the server closes TCP first. To the client, the proxy is the server;
            Side::Client => peer.recv != RecvState::Open,
            // the backend closes first, unless it violated the protocol.
            Side::Backend => peer.recv == RecvState::Failed || peer.fin_waived,
        };
        match peer.send {
            _ if peer.reset => Shutdown::Abort,
            SendState::Stopped => Shutdown::CloseWrite,
            SendState::CloseSent(_) if finished || peer.eof => Shutdown::CloseWrite,
            SendState::Relay
            | SendState::CloseAfterFrame
            | SendState::CloseAfterRelay
            | SendState::CloseAfterMessages
            | SendState::CloseReady(_)
            | SendState::CloseSent(_) => Shutdown::KeepOpen,
        }
    }
}
