//! Startup: builds the parts, binds the sockets, takes over from a predecessor, and starts to accept.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::interval;
use tokio::{join, select};
use tracing::info;

use crate::admin::control::server::{self as control, ControlServer};
use crate::admin::control::service::ReloadRequest;
use crate::admin::control::socket;
use crate::admin::http;
use crate::admin::status::cache::StatusCache;
use crate::app::StartError;
use crate::config::settings::Settings;
use crate::listener::inherited::InheritedSockets;
use crate::listener::socket::BindError;
use crate::net::network::SystemNet;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::ProxyState;
use crate::server::listeners::Listeners;
use crate::server::lost_backends;
use crate::server::reload::{self, ConfigSource};
use crate::sys::clock::wall;
use crate::sys::{descriptors, systemd};
use crate::telemetry::access_log::AccessLog;

/// A started proxy.
pub(super) struct StartedApp<S> {
    pub(super) state: Arc<ProxyState>,
    pub(super) listeners: Listeners,
    /// Admin listener, control socket and background work; never ends.
    pub(super) services: S,
}

/// Builds all parts, binds the sockets, and starts to accept connections.
///
/// # Errors
/// An invalid configuration, or a socket or file that cannot be opened.
pub(super) fn start(
    settings: Settings,
    source: &ConfigSource,
    inherited: InheritedSockets,
    reloads: mpsc::Sender<ReloadRequest>,
    handed_over: Arc<Notify>,
) -> Result<StartedApp<impl Future<Output = ()> + Send + use<>>, StartError> {
    let ticketer =
        crate::tls::terminate::ticketer().map_err(|error| StartError::System(error.to_string()))?;
    let descriptors = descriptors::raise_limit();
    let snapshot =
        Snapshot::build(settings, None, &ticketer, descriptors).map_err(StartError::Settings)?;
    let access_log = AccessLog::open(&snapshot.settings)
        .map_err(|error| StartError::System(error.to_string()))?;
    let wanted = snapshot.settings.listeners.clone();
    let admin_address = snapshot.settings.admin;
    let control_path = socket::path(&snapshot.settings.control);
    let capacity = snapshot.capacity;
    let fingerprint = snapshot.settings.source_map.fingerprint().map(str::to_owned);
    let mut listeners = Listeners::new(inherited);
    listeners.warn_unused_inherited(&wanted, admin_address);
    let bind_error = |error: BindError| StartError::System(error.to_string());
    let bound = listeners.bind(&wanted).map_err(bind_error)?;
    let admin = admin_address.map(|address| listeners.bind_admin(address)).transpose();
    let admin = admin.map_err(bind_error)?;
    // There is no previous access log to finish.
    drop(access_log.activate());
    let state = Arc::new(ProxyState::new(Arc::new(SystemNet), snapshot, ticketer, descriptors));
    let status = Arc::<StatusCache>::default();
    let admin = admin.map(|listener| http::serve(state.clone(), status.clone(), listener));
    let control = control_path
        .map(|path| {
            control::bind(state.clone(), status.clone(), &path, listeners.is_successor(), reloads)
        })
        .transpose()
        .map_err(|error| StartError::System(error.to_string()))?;
    reload::warn(source, &state.snapshot().warnings(wall()));
    let handover_error =
        |error| StartError::System(format!("handover: no answer from the old process: {error}"));
    listeners.take_over().map_err(handover_error)?;
    let control = control.map(ControlServer::open);
    listeners.open(&state, bound);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        connections_max = capacity.connections,
        tunnels_max = capacity.tunnels,
        descriptors,
        config_sha256 = fingerprint,
        "serving"
    );
    systemd::ready(&reload::status(&state));
    let lost = lost_backends::run(state.clone());
    let services = async move {
        join!(until_handover(admin, &handed_over), or_pending(control), lost, sweep_status(status));
    };
    Ok(StartedApp { state, listeners, services })
}

/// Frees the cached status document after a time without requests.
async fn sweep_status(status: Arc<StatusCache>) {
    let mut sweep = interval(SWEEP_INTERVAL);
    loop {
        sweep.tick().await;
        status.sweep();
    }
}

/// Runs the task; a disabled one stays pending.
async fn or_pending(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Runs the admin listener until a successor serves.
async fn until_handover(serving: Option<impl Future<Output = ()>>, handed_over: &Notify) {
    select! {
        () = or_pending(serving) => {}
        () = handed_over.notified() => std::future::pending().await,
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
