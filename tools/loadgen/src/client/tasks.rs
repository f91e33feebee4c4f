//! The tasks of a run's tunnels; the first error ends the run.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::tunnel::{Tunnel, TunnelDriver};
use crate::error::Error;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Tasks(JoinSet<Result<(), Error>>);

impl Tasks {
    /// Drives a tunnel until it is closed.
    pub fn add<T: TunnelDriver + 'static>(&mut self, tunnel: &Rc<Tunnel<T>>) {
        let (tunnel, place) = (tunnel.clone(), format!("tunnel {}", self.0.len() + 1));
        self.0
            .spawn_local(async move { tunnel.serve().await.map_err(|error| error.context(place)) });
    }

    /// Runs another fallible task.
    pub fn spawn(&mut self, task: impl Future<Output = Result<(), Error>> + 'static) {
        self.0.spawn_local(task);
    }

    /// Runs `work`. Fails as soon as one of the tasks fails or ends.
    pub async fn run_with<R>(
        &mut self,
        work: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        tokio::select! {
            biased;
            Some(ended) = self.0.join_next() => {
                flat(ended)?;
                Err(Error::new("a tunnel ended before the run was over"))
            }
            done = work => done,
        }
    }

    /// Waits until all tasks have ended, each of which has deadlines.
    pub async fn join(&mut self) -> Result<(), Error> {
        while let Some(ended) = self.0.join_next().await {
            flat(ended)?;
        }
        Ok(())
    }

    /// Waits until all tunnels, which have been told to close, have ended.
    pub async fn finish(&mut self) -> Result<(), Error> {
        let done = timeout(CLOSE_TIMEOUT, self.join()).await;
        done.unwrap_or_else(|_| {
            let [left, wait] = [self.0.len() as u64, CLOSE_TIMEOUT.as_secs()];
            Err(Error::new(format!("{left} tunnels did not close within {wait} s")))
        })
    }

    /// Aborts all tasks.
    pub async fn abort_all(&mut self) {
        self.0.shutdown().await;
    }
}

fn flat(ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::new(error.to_string())))
}
