//! The load scenarios, one file each.

pub mod attack;
pub mod broadcast;
pub mod bulk;
mod child;
pub mod churn;
pub mod echo;
pub mod flood;
pub mod half_open;
pub mod handshake;
pub mod http;
pub mod idle;
pub mod living;
pub mod open_loop;
pub mod schedule;
mod single_echo;
pub mod storm;
pub mod tunnel_set;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::cli::Common;
use crate::client::connect::{Connector, STEP_TIMEOUT};
use crate::client::connection::SharedBuffers;
use crate::client::tls::{self, TicketStore};
use crate::error::Error;
use crate::measure::measurement::{Measurement, Stats};

/// The options of a run, resolved.
pub struct Plan {
    pub common: Common,
    pub connector: Rc<Connector>,
    pub tickets: Arc<TicketStore>,
}

impl Plan {
    pub fn new(common: Common, resume: bool) -> Result<Self, Error> {
        Self::with_tls(common, resume, true)
    }

    /// With clients that do not check the server's certificate, where the load core limits the result.
    pub fn unverified(common: Common) -> Result<Self, Error> {
        Self::with_tls(common, false, false)
    }

    fn with_tls(common: Common, resume: bool, verify: bool) -> Result<Self, Error> {
        let tickets = Arc::new(TicketStore::default());
        let tls = match &common.ca {
            Some(ca) => {
                let config =
                    tls::config(ca, common.group, verify, resume.then(|| tickets.clone()))?;
                let name = ServerName::try_from(common.name.clone());
                let name = name.map_err(|_| Error::new("--name is not a valid server name"))?;
                Some((config, name))
            }
            None => None,
        };
        let connector = Connector {
            target: common.connect,
            host: common.name.clone(),
            tls,
            sources: common.sources,
            next_source: Cell::new(0),
            handshake_bytes: Cell::new(0),
            buffers: SharedBuffers::new(),
            step_timeout: Cell::new(STEP_TIMEOUT),
        };
        Ok(Self { common, connector: Rc::new(connector), tickets })
    }

    pub fn path_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.common.path.as_deref().unwrap_or(default)
    }

    pub fn tunnels_or(&self, default: usize) -> usize {
        self.common.tunnels.unwrap_or(default)
    }

    pub fn concurrency_or(&self, default: usize) -> usize {
        self.common.concurrency.unwrap_or(default).max(1)
    }

    pub fn size_or(&self, default: usize) -> usize {
        self.common.size.unwrap_or(default)
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.common.warmup)
    }

    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.common.seconds)
    }

    async fn measure(&self, stats: &Stats) -> Result<Measurement, Error> {
        Measurement::run(stats, &self.common.pids, self.warmup(), self.time()).await
    }
}
