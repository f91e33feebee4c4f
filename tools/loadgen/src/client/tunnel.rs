//! A connection together with the scenario that drives it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::connection::{Connection, MessageHandler};
use crate::error::Error;

/// What to do after a call of [`TunnelDriver::drive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait for the next event.
    Wait,
    /// Yield to other tasks, then continue.
    Yield,
    /// Send a Close and finish.
    Close,
    /// Finish without a Close.
    Finish,
}

pub trait TunnelDriver: MessageHandler {
    fn drive(&mut self, connection: &mut Connection) -> Result<Action, Error>;

    /// Whether to send close_notify after both Close frames.
    fn sends_close_notify(&self) -> bool {
        true
    }
}

pub struct Tunnel<T>(RefCell<(Connection, T)>);

impl<T: TunnelDriver + 'static> Tunnel<T> {
    pub fn new(connection: Connection, driver: T) -> Rc<Self> {
        Rc::new(Self(RefCell::new((connection, driver))))
    }

    /// Drives the tunnel until it is closed.
    pub async fn serve(self: Rc<Self>) -> Result<(), Error> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Accesses the tunnel from outside its task.
    pub fn with<R>(&self, f: impl FnOnce(&mut Connection, &mut T) -> R) -> R {
        let (connection, driver) = &mut *self.0.borrow_mut();
        f(connection, driver)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let (connection, driver) = &mut *self.0.borrow_mut();
        connection.set_waker(context);
        loop {
            if connection.close_code().is_some() {
                if driver.sends_close_notify() {
                    connection.send_close_notify();
                }
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(Err(error)) = connection.poll_flush(context) {
                return Poll::Ready(Err(error));
            }
            match driver.drive(connection)? {
                Action::Wait => {}
                Action::Yield => context.waker().wake_by_ref(),
                Action::Close => connection.close()?,
                Action::Finish => return Poll::Ready(Ok(())),
            }
            ready!(connection.poll_read_once(context, driver))?;
        }
    }
}
