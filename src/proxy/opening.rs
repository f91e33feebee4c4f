//! The work on a connection until its first response, limited so that connections which are being opened
//! neither all progress at once nor delay open tunnels.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::admission::pending::PendingConnection;
use crate::admission::turns::{OpeningProgress, Turn, TurnRequest, Turns};
use crate::client::ClientKey;
use crate::reject::drop_reason::ShedCause;
use crate::sys::worker_share::{ShareTurn, WorkKind};

pin_project! {
    /// Polls the work on a connection while the connection has a turn.
    ///
    /// | state | event | next |
    /// | --- | --- | --- |
    /// | has a turn | works | the same |
    /// | has a turn | waits for the client or the backend after [`TURN_TIME`] | paused |
    /// | paused | woken | waits for a turn, before new connections |
    /// | waits for a turn | gets it | has a turn |
    /// | any | first response is ready | needs none |
    /// | any | another connection needs its place | ends |
    pub struct Opening<F> {
        work: Pin<Box<F>>,
        connection: Arc<PendingConnection>,
        turns: Arc<Turns>,
        client: ClientKey,
        state: OpeningState,
        #[pin]
        turn_ends: Sleep,
        share: ShareTurn,
    }
}

#[derive(Debug)]
enum OpeningState {
    HasTurn { _turn: Turn },
    Paused,
    Waiting(TurnRequest),
}

impl<F: Future> Opening<F> {
    /// Limits `work` on a connection of this client, which has its first turn.
    pub fn new(
        work: Pin<Box<F>>,
        connection: Arc<PendingConnection>,
        turns: Arc<Turns>,
        client: ClientKey,
        turn: Turn,
    ) -> Self {
        let turn_ends = sleep_until(Instant::now() + TURN_TIME);
        let state = OpeningState::HasTurn { _turn: turn };
        let share = ShareTurn::of(connection.share_owner());
        Self { work, connection, turns, client, state, turn_ends, share }
    }
}

impl<F: Future> Future for Opening<F> {
    type Output = Result<F::Output, ShedCause>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(cause) = this.connection.poll_shed(cx) {
            return Poll::Ready(Err(cause));
        }
        while !this.connection.is_opened() {
            match this.state {
                OpeningState::Paused => {
                    let request = this.turns.request(*this.client, OpeningProgress::Begun);
                    *this.state = OpeningState::Waiting(request);
                }
                OpeningState::Waiting(request) => {
                    let turn = ready!(Pin::new(request).poll(cx));
                    *this.state = OpeningState::HasTurn { _turn: turn };
                    this.turn_ends.as_mut().reset(Instant::now() + TURN_TIME);
                }
                OpeningState::HasTurn { .. } => {
                    let work = ready!(this.share.poll(WorkKind::Opening, cx));
                    let polled = this.work.as_mut().poll(cx);
                    drop(work);
                    if polled.is_ready() || this.connection.is_opened() {
                        // Frees the turn, now that the response is on its way.
                        *this.state = OpeningState::Paused;
                        return polled.map(Ok);
                    }
                    ready!(this.turn_ends.as_mut().poll(cx));
                    *this.state = OpeningState::Paused;
                    return Poll::Pending;
                }
            }
        }
        let _work = ready!(this.share.poll(WorkKind::Http, cx));
        this.work.as_mut().poll(cx).map(Ok)
    }
}

/// Turns for each worker: enough that it has work while clients answer, and few enough that each connection is
/// opened soon after it has begun. With 9,000 at once, this takes a seventh less CPU time than no limit.
pub const TURNS_PER_WORKER: usize = 32;

/// How long a connection keeps its turn while it waits for its client or for a backend. With all turns held
/// by slow clients, a worker still begins 32 connections in this time, about as many as it can open.
const TURN_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::sync::{mpsc, oneshot};
    use tokio::task::JoinSet;

    use super::*;
    use crate::sys::worker_share::SHARE_MAX;

    /// Does `work` as soon as there is a turn.
    async fn open<T>(
        turns: &Arc<Turns>,
        connection: &Arc<PendingConnection>,
        work: impl Future<Output = T>,
    ) -> T {
        let turn = turns.request(ClientKey::sample(1), OpeningProgress::New).await;
        Opening::new(Box::pin(work), connection.clone(), turns.clone(), ClientKey::sample(1), turn)
            .await
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_passes_its_turn_on_and_asks_again() {
        let turns = Turns::new(1);
        let (data, received) = oneshot::channel::<()>();
        let (events, mut seen) = mpsc::channel(2);
        let mut tasks = JoinSet::new();
        let (slow_turns, slow_events) = (turns.clone(), events.clone());
        tasks.spawn(async move {
            let opened = PendingConnection::permanent();
            let work = async {
                slow_events.send("slow begins").await.unwrap();
                received.await.unwrap();
                slow_events.send("slow ends").await.unwrap();
            };
            open(&slow_turns, &opened, work).await;
        });
        assert_eq!(seen.recv().await, Some("slow begins"));
        // Arrives only once the slow one has paused.
        let turn = turns.request(ClientKey::sample(1), OpeningProgress::New).await;
        data.send(()).unwrap();
        tokio::time::sleep(10 * TURN_TIME).await;
        assert!(seen.try_recv().is_err(), "it works without a turn");
        drop(turn);
        assert_eq!(seen.recv().await, Some("slow ends"));
        tasks.join_all().await;
        turns.request(ClientKey::sample(1), OpeningProgress::New).await;
    }

    #[tokio::test(start_paused = true)]
    async fn first_response_frees_the_turn() {
        let turns = Turns::new(1);
        let opened = PendingConnection::permanent();
        let (flag, (responded, waiting)) = (opened.clone(), oneshot::channel());
        let work = async {
            flag.set_opened();
            responded.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        let mut opening = pin!(open(&turns, &opened, work));
        tokio::select! {
            biased;
            () = &mut opening => unreachable!("never ends"),
            result = waiting => result.unwrap(),
        }
        // Without waiting for the end of the turn.
        tokio::time::timeout(
            TURN_TIME / 2,
            turns.request(ClientKey::sample(1), OpeningProgress::New),
        )
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn expensive_openings_let_tunnels_work_in_between() {
        let turns = Turns::new(64);
        let done = Arc::new(AtomicUsize::new(0));
        let (mut tunnel, peer) = UnixStream::pair().unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..60 {
            let (turns, done) = (turns.clone(), done.clone());
            tasks.spawn(async move {
                let work = async {
                    std::thread::sleep(SHARE_MAX / 2);
                    done.fetch_add(1, Ordering::Relaxed);
                };
                open(&turns, &PendingConnection::permanent(), work).await;
            });
        }
        let counted = done.clone();
        let mut neighbour = JoinSet::new();
        neighbour.spawn(async move {
            tunnel.read_u8().await.unwrap();
            counted.load(Ordering::Relaxed)
        });
        peer.writable().await.unwrap();
        peer.try_write(&[1]).unwrap();
        let before = neighbour.join_next().await.unwrap().unwrap();
        assert!(before < 30, "{before} of 60 openings came first");
        tasks.join_all().await;
    }

    /// Downloads, for example: their connections are polled again and again after their first response.
    #[test]
    fn responses_let_other_tasks_work_in_between() {
        let worker = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .event_interval(16)
            .enable_all()
            .build()
            .unwrap();
        let test = worker.spawn(async {
            let (turns, polls) = (Turns::new(64), Arc::new(AtomicUsize::new(0)));
            let mut tasks = JoinSet::new();
            for _ in 0..30 {
                let (turns, polls) = (turns.clone(), polls.clone());
                tasks.spawn(async move {
                    let opened = PendingConnection::permanent();
                    opened.set_opened();
                    let work = std::future::poll_fn(|cx| {
                        std::thread::sleep(SHARE_MAX);
                        polls.fetch_add(1, Ordering::Relaxed);
                        cx.waker().wake_by_ref();
                        Poll::<()>::Pending
                    });
                    open(&turns, &opened, work).await;
                });
            }
            let mut before = 0;
            while before < 60 {
                let now = polls.load(Ordering::Relaxed);
                assert!(now <= before + 1, "{} polls before another task", now - before);
                before = now;
                tokio::task::yield_now().await;
            }
            tasks.shutdown().await;
        });
        worker.block_on(test).unwrap();
    }
}
