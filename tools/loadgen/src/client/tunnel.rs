//! A link with the task that serves it, and what a scenario does with it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::link::{Hear, Link};
use crate::fail::Fail;

/// What comes after each read, write or waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for whatever comes.
    Wait,
    /// There is more to do; let others have their turn.
    Again,
    /// Ask the peer to close, and end.
    Leave,
}

pub trait Talk: Hear {
    fn turn(&mut self, link: &mut Link) -> Result<Next, Fail>;

    /// Whether TLS is ended as well, after both Closes.
    fn polite(&self) -> bool {
        true
    }
}

pub struct Tunnel<T>(RefCell<(Link, T)>);

impl<T: Talk + 'static> Tunnel<T> {
    pub fn new(link: Link, talk: T) -> Rc<Self> {
        Rc::new(Self(RefCell::new((link, talk))))
    }

    /// Until it has said goodbye.
    pub async fn serve(self: Rc<Self>) -> Result<(), Fail> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Does something with it from outside its task.
    pub fn with<R>(&self, what: impl FnOnce(&mut Link, &mut T) -> R) -> R {
        let (link, talk) = &mut *self.0.borrow_mut();
        what(link, talk)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<(), Fail>> {
        let (link, talk) = &mut *self.0.borrow_mut();
        link.watch(context);
        loop {
            if link.ended().is_some() {
                if talk.polite() {
                    link.goodbye();
                }
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(Err(error)) = link.poll_flush(context) {
                return Poll::Ready(Err(error));
            }
            match talk.turn(link)? {
                Next::Wait => {}
                Next::Again => context.waker().wake_by_ref(),
                Next::Leave => link.leave()?,
            }
            ready!(link.poll_turn(context, talk))?;
        }
    }
}
