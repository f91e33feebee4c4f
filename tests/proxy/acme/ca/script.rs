//! What goes wrong at the CA, and when: prepared by the test, per step of the protocol.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::watch;

use super::problem::Problem;
use crate::support::within_timeout;

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    /// The CA connects to the client. Comes from the CA, not from a request.
    Validation,
    Finalize,
    Certificate,
    RenewalInfo,
}

impl Step {
    /// The steps of a first certificate, in order.
    pub const FIRST_ISSUE: [Self; 10] = [
        Self::Directory,
        Self::NewNonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::Authorization,
        Self::Challenge,
        Self::Validation,
        Self::Order,
        Self::Finalize,
        Self::Certificate,
    ];
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The request is answered with this error, and has no other effect.
    Problem(Problem),
    /// The connection is closed instead of an answer; the request has no effect.
    Disconnect,
    /// The request takes effect, and half of the answer is sent.
    HalfAnswer,
    /// The request takes effect; a page that is not JSON is the answer, with this status code.
    Page(u16),
    /// The request takes effect, but its answer waits until the test calls [`Gatekeeper::release`].
    Hold(Gatekeeper),
}

/// Keeps an answer back until the test allows it.
#[derive(Clone, Debug)]
pub struct Gatekeeper {
    state: watch::Sender<Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Waiting,
    Reached,
    Released,
}

impl Gatekeeper {
    /// Nothing has reached it yet.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(Held::Waiting) }
    }

    /// Waits until an answer is kept back.
    pub async fn reached(&self) {
        self.at_least(Held::Reached).await;
    }

    /// Lets the answer go.
    pub fn release(&self) {
        self.state.send_replace(Held::Released);
    }

    /// Called by the CA.
    pub async fn pass(&self) {
        self.state.send_if_modified(|state| {
            let first = *state == Held::Waiting;
            *state = if first { Held::Reached } else { *state };
            first
        });
        self.at_least(Held::Released).await;
    }

    async fn at_least(&self, wanted: Held) {
        let mut state = self.state.subscribe();
        within_timeout("the CA", state.wait_for(|held| *held >= wanted)).await.unwrap();
    }
}

/// The faults to come, and how often each step was reached.
#[derive(Default)]
pub struct Script {
    steps: Mutex<BTreeMap<Step, Progress>>,
}

#[derive(Default)]
struct Progress {
    reached: usize,
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

impl Script {
    /// Counts the step; the fault that it meets.
    pub fn reach(&self, step: Step) -> Option<Fault> {
        let mut steps = self.steps.lock().unwrap();
        let progress = steps.entry(step).or_default();
        progress.reached += 1;
        progress.next.pop_front().or_else(|| progress.always.clone())
    }

    /// How often the step was reached.
    pub fn count(&self, step: Step) -> usize {
        self.steps.lock().unwrap().get(&step).map_or(0, |progress| progress.reached)
    }

    /// Adds a fault for the next request of this step that has none.
    pub fn add(&self, step: Step, fault: Fault) {
        self.steps.lock().unwrap().entry(step).or_default().next.push_back(fault);
    }

    /// Sets the fault of all requests of this step that have no other.
    pub fn always(&self, step: Step, fault: Option<Fault>) {
        self.steps.lock().unwrap().entry(step).or_default().always = fault;
    }
}
