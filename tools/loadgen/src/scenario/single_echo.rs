//! A connection with one echo: connect, TLS, upgrade, one message and its echo.

use std::rc::Rc;

use super::Plan;
use crate::client::connect::within;
use crate::client::connection::{Connection, MessageHandler};
use crate::client::tunnel::{Action, Tunnel, TunnelDriver};
use crate::error::Error;
use crate::message::{MessagePool, Verifier};

/// What happens after the echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEcho {
    /// Close frames in both directions.
    Close,
    /// Nothing: the connection is reset when dropped.
    Finish,
    /// The tunnel stays open and answers pings.
    Stay,
}

/// Opens a connection and waits for its echo, and for its Close if `after` asks for one. The connection
/// is reset when dropped.
pub async fn open(
    plan: &Plan,
    pool: &Rc<MessagePool>,
    number: u64,
    after: AfterEcho,
) -> Result<Rc<Tunnel<SingleEcho>>, Error> {
    let connection = plan.connector.open(plan.path_or("/echo")).await?;
    let (pool, verifier) = (pool.clone(), Verifier::from(number));
    let driver = SingleEcho { pool, verifier, number, after, sent: false, back: false };
    let tunnel = Tunnel::new(connection, driver);
    within("echo and Close", plan.connector.step_timeout.get(), tunnel.clone().serve()).await?;
    tunnel.with(|connection, _| connection.reset_on_drop())?;
    Ok(tunnel)
}

pub struct SingleEcho {
    pub after: AfterEcho,
    pool: Rc<MessagePool>,
    verifier: Verifier,
    number: u64,
    sent: bool,
    back: bool,
}

impl MessageHandler for SingleEcho {
    fn on_data(&mut self, part: &[u8]) -> Result<(), Error> {
        self.verifier.verify(&self.pool, part)
    }

    fn on_message_end(&mut self, _: bool) -> Result<(), Error> {
        if std::mem::replace(&mut self.back, true) {
            return Err(Error::new("received a message that was never sent"));
        }
        self.verifier.end_message(&self.pool)
    }
}

impl TunnelDriver for SingleEcho {
    fn drive(&mut self, connection: &mut Connection) -> Result<Action, Error> {
        if !std::mem::replace(&mut self.sent, true) {
            connection.send(self.pool.frames(self.number, 1).0)?;
        }
        Ok(match self.after {
            AfterEcho::Close if self.back => Action::Close,
            AfterEcho::Finish if self.back => Action::Finish,
            AfterEcho::Close | AfterEcho::Finish | AfterEcho::Stay => Action::Wait,
        })
    }

    fn sends_close_notify(&self) -> bool {
        false
    }
}
