//! Start: builds everything, then binds, then serves. Nothing is visible from outside before all of
//! it has succeeded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::interval;
use tokio::{join, select};
use tracing::info;

use crate::admin::control::server::{self as control, ControlServer};
use crate::admin::control::service::ReloadRequest;
use crate::admin::http;
use crate::admin::status::cache::StatusCache;
use crate::app::{RunError, open_files};
use crate::config::settings::Settings;
use crate::listener::inherited::InheritedSockets;
use crate::listener::socket::BindError;
use crate::net::network::SystemNet;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::server::listeners::Listeners;
use crate::server::name_lookups::first_lookups;
use crate::server::reload::{self, ConfigSource};
use crate::server::{
    backend_probes, certificate_orders, lost_backends, maintenance_files, rebalance,
};
use crate::sys::clock::wall;
use crate::sys::systemd;
use crate::telemetry::access_log::{AccessLog, sum_up_suppressed};
use crate::tls::terminate::ticketer;

/// A process that serves: its shared state, its listeners, and the background work to poll.
pub type StartedApp<Background> = (Arc<ProxyState>, Listeners, Background);

/// Builds and binds everything, takes over from a predecessor if there is one, and starts to
/// accept.
///
/// `reloads` receives the reloads that are requested over the control socket. `replaced` is
/// notified once a successor serves; the admin listener then stops answering. The background future
/// answers the operator and ends only if one of its parts fails.
///
/// # Errors
/// The configuration does not work here, a socket cannot be bound, or the predecessor went away.
pub async fn start(
    settings: Settings,
    source: &ConfigSource,
    inherited: InheritedSockets,
    reloads: mpsc::Sender<ReloadRequest>,
    replaced: Arc<Notify>,
) -> Result<StartedApp<impl Future<Output = ()> + Send + use<>>, RunError> {
    let ticketer = ticketer().map_err(|error| RunError::System(error.to_string()))?;
    let descriptors = open_files(&settings)?;
    let snapshot =
        Snapshot::build(settings, None, &ticketer, descriptors).map_err(RunError::Settings)?;
    let access_log =
        AccessLog::open(&snapshot.settings).map_err(|error| RunError::System(error.to_string()))?;
    let listener_settings = snapshot.settings.listeners.clone();
    let admin_address = snapshot.settings.admin;
    let control_settings = snapshot.settings.control.clone();
    let capacity = snapshot.capacity;
    let fingerprint = snapshot.settings.source_map.fingerprint().map(str::to_owned);
    let mut listeners = Listeners::new(inherited);
    listeners.warn_unused_inherited(&listener_settings, admin_address);
    let bind_error = |error: BindError| RunError::System(error.to_string());
    let bound = listeners.bind(&listener_settings).map_err(bind_error)?;
    let admin = admin_address.map(|address| listeners.bind_admin(address)).transpose();
    let admin = admin.map_err(bind_error)?;
    // The first log has no predecessor to finish.
    drop(access_log.activate());
    let state = Arc::new(ProxyState::new(Arc::new(SystemNet), snapshot, ticketer, descriptors));
    first_lookups(&state.net, &state.snapshot(), None).await;
    let status = Arc::<StatusCache>::default();
    let admin = admin.map(|listener| http::serve(state.clone(), status.clone(), listener));
    let is_successor = listeners.is_successor();
    let control =
        control::bind(state.clone(), status.clone(), &control_settings, is_successor, reloads)
            .map_err(|error| RunError::System(error.to_string()))?;
    reload::warn(source, &state.snapshot().warnings(wall()));
    listeners.take_over().map_err(|error| {
        RunError::System(format!("handover: no answer from the previous process: {error}"))
    })?;
    let control = control.map(ControlServer::open);
    listeners.start_accepting(&state, bound);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        connections_max = capacity.connections,
        tunnels_max = capacity.tunnels,
        descriptors,
        config_sha256 = fingerprint,
        "serving"
    );
    systemd::ready(&reload::status(&state));
    let (probes, lost_backends) =
        (backend_probes::run(state.clone()), lost_backends::run(state.clone()));
    let rebalances = rebalance::run(state.clone());
    let maintenance_files = maintenance_files::run(state.clone());
    let certificate_orders = certificate_orders::run(state.clone());
    let background = async move {
        join!(
            until_replaced(admin, &replaced),
            forever(control),
            probes,
            lost_backends,
            rebalances,
            maintenance_files,
            certificate_orders,
            expire_status(status),
            sum_up_records()
        );
    };
    Ok((state, listeners, background))
}

/// Frees the cached status once no client has asked for it for a while.
async fn expire_status(status: Arc<StatusCache>) {
    let mut sweep = interval(SWEEP_INTERVAL);
    loop {
        sweep.tick().await;
        status.drop_stale();
    }
}

/// Writes what the rate of records has suppressed; during a drain as well.
async fn sum_up_records() {
    let mut sum_up = interval(SUM_UP_INTERVAL);
    loop {
        sum_up.tick().await;
        sum_up_suppressed();
    }
}

/// Runs a task; one that is switched off counts as running.
async fn forever(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Runs a task until a successor has taken over its socket.
async fn until_replaced(task: Option<impl Future<Output = ()>>, replaced: &Notify) {
    select! {
        () = forever(task) => {}
        () = replaced.notified() => std::future::pending().await,
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const SUM_UP_INTERVAL: Duration = Duration::from_secs(1);
