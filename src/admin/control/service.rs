//! Executes the commands of the control socket.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::hypothetical_request::HypotheticalRequest;
use super::response_writer::ResponseWriter;
use super::{
    certificates, commands, effective_config, explain, rebalance, selection, session_list, tail,
};
use crate::admin::status::cache::StatusCache;
use crate::control_protocol::response::{
    CommandError, CommandErrorKind, DrainResult, ReloadResult,
};
use crate::control_protocol::{CloseRequest, ControlRequest, DrainPacing, Selection};
use crate::proxy::state::ProxyState;
use crate::server::reload;
use crate::server::reload::error::ReloadError;

/// Requests a reload; the sender receives the changes or why it was rejected.
pub type ReloadRequest = oneshot::Sender<Result<ReloadResult, ReloadError>>;

/// What commands act on.
pub(super) struct ControlService {
    pub(super) state: Arc<ProxyState>,
    pub(super) status: Arc<StatusCache>,
    pub(super) reloads: mpsc::Sender<ReloadRequest>,
}

impl ControlService {
    /// Executes a request and writes its responses, except for the error returned.
    pub(super) async fn execute(
        &self,
        request: ControlRequest,
        reply: &mut ResponseWriter,
    ) -> Result<(), CommandError> {
        let state = &self.state;
        match request {
            ControlRequest::Status => {
                let cache = self.status.clone();
                let status = self.run_blocking(move |state| cache.fresh_status(&state)).await?;
                reply.ok(&status).await;
            }
            ControlRequest::Sessions { selection } => {
                let selected = selection::select(state, &selection)?;
                let list =
                    self.run_blocking(move |state| session_list::list(&state, &selected)).await?;
                reply.ok(&list).await;
            }
            ControlRequest::Session { session } => {
                let session = selection::find(state, session)?;
                reply.ok(&session_list::detail(&session)).await;
            }
            ControlRequest::Kill { selection, all, close } => {
                reply.ok(&commands::kill(state, &selection, all, &close)?).await;
            }
            ControlRequest::Drain { selection, all, pacing, close, wait } => {
                self.drain(&selection, all, pacing, &close, wait, reply).await?;
            }
            ControlRequest::Undrain { scope } => {
                commands::undrain(state, &scope)?;
                reply.ok(&scope).await;
            }
            ControlRequest::Weight { backend, route, weight } => {
                let changed = commands::set_weight(state, &backend, route.as_deref(), weight)?;
                reply.ok(&changed).await;
            }
            ControlRequest::Canary { pool, share } => {
                let set = move |state| rebalance::set_canary(&state, &pool, share.as_deref());
                reply.ok(&self.run_blocking(set).await??).await;
            }
            ControlRequest::Rebalance { pool, per_second, dry_run } => {
                self.rebalance(pool, per_second, dry_run, reply).await?;
            }
            ControlRequest::StopRebalance { pool } => {
                reply.ok(&rebalance::stop(state, pool.as_deref())?).await;
            }
            ControlRequest::Maintenance { route, on } => {
                let set = move |state: Arc<_>| commands::set_maintenance(&state, &route, on);
                reply.ok(&self.run_blocking(set).await??).await;
            }
            ControlRequest::Certs => {
                reply.ok(&self.run_blocking(|state| certificates::list(&state)).await?).await;
            }
            ControlRequest::Renew { name } => {
                reply.ok(&certificates::renew(state, &name)?).await;
            }
            ControlRequest::Tail { session } => tail::tail(state, session, reply).await?,
            ControlRequest::Explain { url, origin, address, headers } => {
                let (origin, address) = (origin.as_deref(), address.as_deref());
                let request = HypotheticalRequest::parse(&url, origin, address, &headers)?;
                reply.ok(&explain::explain(state, &request)).await;
            }
            ControlRequest::Reload => drop(reply.ok(&self.reload().await?).await),
            ControlRequest::Diff { path, text } => self.diff(path, text, reply).await?,
            ControlRequest::Config => drop(reply.ok(&effective_config::config(state)).await),
            ControlRequest::LogLevel { level } => {
                reply.ok(&effective_config::log_level(level.as_deref())?).await;
            }
        }
        Ok(())
    }

    async fn diff(
        &self,
        path: String,
        text: String,
        reply: &mut ResponseWriter,
    ) -> Result<(), CommandError> {
        let preview =
            move |state: Arc<ProxyState>| reload::preview(&state, Path::new(&path), &text);
        let changes = self.run_blocking(preview).await?;
        let changes = changes.map_err(|error| rejected("a reload would be rejected", &error))?;
        reply.ok(&changes).await;
        Ok(())
    }

    async fn drain(
        &self,
        selection: &Selection,
        all: bool,
        pacing: DrainPacing,
        close: &CloseRequest,
        wait: bool,
        reply: &mut ResponseWriter,
    ) -> Result<(), CommandError> {
        let (started, task) = commands::drain(&self.state, selection, all, pacing, close)?;
        if !wait {
            reply.ok(&started).await;
        } else if let Some(outcome) = reply.unless_disconnected(task).await {
            let outcome =
                outcome.map_err(|_| CommandError::new(CommandErrorKind::Rejected, DRAIN_ENDED))?;
            reply.ok(&DrainResult { aborted: Some(outcome.aborted), ..started }).await;
        }
        Ok(())
    }

    async fn rebalance(
        &self,
        pool: Option<String>,
        per_second: Option<u32>,
        dry_run: bool,
        reply: &mut ResponseWriter,
    ) -> Result<(), CommandError> {
        let command = move |state: Arc<ProxyState>| {
            rebalance::rebalance(&state, pool.as_deref(), per_second, dry_run)
        };
        reply.ok(&self.run_blocking(command).await??).await;
        Ok(())
    }

    async fn reload(&self) -> Result<ReloadResult, CommandError> {
        let (sender, outcome) = oneshot::channel();
        let shutdown =
            || CommandError::new(CommandErrorKind::Rejected, "the process is shutting down");
        self.reloads.send(sender).await.map_err(|_| shutdown())?;
        let outcome = outcome.await.map_err(|_| shutdown())?;
        outcome.map_err(|error| {
            rejected("reload rejected; the previous configuration stays active", &error)
        })
    }

    /// Runs an operation that may take milliseconds outside of the worker threads, which serve
    /// tunnels.
    async fn run_blocking<T: Send + 'static>(
        &self,
        operation: impl FnOnce(Arc<ProxyState>) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let state = self.state.clone();
        let output = tokio::task::spawn_blocking(move || operation(state)).await;
        output.map_err(|_| CommandError::new(CommandErrorKind::Rejected, PANICKED))
    }
}

fn rejected(message: &str, error: &ReloadError) -> CommandError {
    CommandError { errors: error.lines(), ..CommandError::new(CommandErrorKind::Rejected, message) }
}

const DRAIN_ENDED: &str = "the drain was ended by undrain, or by another drain of the same";
const PANICKED: &str = "internal error; see tidegate's log";
