//! The tasks of all tunnels of a run: the first that fails ends it.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::tunnel::{Talk, Tunnel};
use crate::fail::Fail;

const LEAVE_WAIT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Crew(JoinSet<Result<(), Fail>>);

impl Crew {
    /// Serves a tunnel until it has left.
    pub fn add<T: Talk + 'static>(&mut self, tunnel: &Rc<Tunnel<T>>) {
        let (tunnel, place) = (tunnel.clone(), format!("tunnel {}", self.0.len() + 1));
        self.0.spawn_local(async move { tunnel.serve().await.map_err(|fail| fail.at(place)) });
    }

    /// Any other work that may fail.
    pub fn work(&mut self, work: impl Future<Output = Result<(), Fail>> + 'static) {
        self.0.spawn_local(work);
    }

    /// Does `what`, unless somebody fails or leaves before.
    pub async fn during<R>(
        &mut self,
        what: impl Future<Output = Result<R, Fail>>,
    ) -> Result<R, Fail> {
        tokio::select! {
            biased;
            Some(ended) = self.0.join_next() => {
                flat(ended)?;
                Err(Fail::new("a tunnel ended before its time"))
            }
            done = what => done,
        }
    }

    /// Until all have left.
    pub async fn finish(&mut self) -> Result<(), Fail> {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                flat(ended)?;
            }
            Ok(())
        };
        let done = timeout(LEAVE_WAIT, all).await;
        done.unwrap_or_else(|_| {
            let [left, wait] = [self.0.len() as u64, LEAVE_WAIT.as_secs()];
            Err(Fail::new(format!("{left} tunnels had not all back and a Close within {wait} s")))
        })
    }

    /// Ends all tasks where they are.
    pub async fn drop_all(&mut self) {
        self.0.shutdown().await;
    }
}

fn flat(ended: Result<Result<(), Fail>, JoinError>) -> Result<(), Fail> {
    ended.unwrap_or_else(|error| Err(Fail::new(error.to_string())))
}
