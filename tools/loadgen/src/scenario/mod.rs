//! What the load does, one file a scenario.

pub mod broadcast;
pub mod bulk;
pub mod churn;
pub mod echo;
pub mod handshake;
pub mod herd;
pub mod idle;
pub mod open_loop;
pub mod pace;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::cli::Common;
use crate::client::dial::Dialer;
use crate::client::link::Desk;
use crate::client::tls::{self, Sessions};
use crate::fail::Fail;
use crate::measure::window::{Stats, Window};

/// What the options ask for, ready for use.
pub struct Plan {
    pub common: Common,
    pub dialer: Rc<Dialer>,
    pub sessions: Arc<Sessions>,
}

impl Plan {
    pub fn new(common: Common, resume: bool) -> Result<Self, Fail> {
        let sessions = Arc::new(Sessions::default());
        let tls = match &common.ca {
            Some(ca) => {
                let config = tls::config(ca, resume.then(|| sessions.clone()))?;
                let name = ServerName::try_from(common.name.clone());
                let name = name.map_err(|_| Fail::new("--name is no server's name"))?;
                Some((config, name))
            }
            None => None,
        };
        let dialer = Dialer {
            target: common.connect,
            host: common.name.clone(),
            tls,
            sources: common.sources,
            turn: Cell::new(0),
            desk: Desk::new(),
        };
        Ok(Self { common, dialer: Rc::new(dialer), sessions })
    }

    pub fn path<'a>(&'a self, usual: &'a str) -> &'a str {
        self.common.path.as_deref().unwrap_or(usual)
    }

    pub fn tunnels(&self, usual: usize) -> usize {
        self.common.tunnels.unwrap_or(usual)
    }

    pub fn at_a_time(&self, usual: usize) -> usize {
        self.common.concurrency.unwrap_or(usual).max(1)
    }

    pub fn size(&self, usual: usize) -> usize {
        self.common.size.unwrap_or(usual)
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.common.warmup)
    }

    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.common.seconds)
    }

    async fn window(&self, stats: &Stats) -> Result<Window, Fail> {
        Window::of(stats, &self.common.pids, self.warmup(), self.time()).await
    }
}
