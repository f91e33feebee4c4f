//! Looks for the files in `route.maintenance_file`, by which an operator or a deployment script switches the
//! maintenance of a route.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;
use tracing::{info, warn};

use crate::proxy::maintenance::FileChange;
use crate::proxy::route::Route;
use crate::proxy::state::ProxyState;

/// Looks for the files of all routes once a second, until dropped.
pub async fn run(state: Arc<ProxyState>) {
    let mut poll = interval(POLL_INTERVAL);
    loop {
        poll.tick().await;
        let snapshot = state.snapshot();
        let has_file = |route: &&Arc<Route>| route.maintenance.file().is_some();
        let routes: Vec<Arc<Route>> =
            snapshot.route_list.iter().filter(has_file).cloned().collect();
        if routes.is_empty() {
            continue;
        }
        // Outside of the workers, as a file system over the network may not answer. A panic would be counted.
        let _ = spawn_blocking(move || routes.iter().for_each(|route| look(route))).await;
    }
}

/// Looks for the file of a route, and logs what is new.
pub fn look(route: &Route) {
    let file = route.maintenance.file().map(|file| file.display().to_string());
    match route.maintenance.look() {
        None => {}
        Some(FileChange::Exists(true)) => {
            info!(route = &*route.name, file, "maintenance on: the file exists; requests get 503");
        }
        Some(FileChange::Exists(false)) => {
            info!(route = &*route.name, file, "maintenance off: the file is gone");
        }
        Some(FileChange::Unknown(error)) => warn!(
            route = &*route.name,
            file,
            error = error.to_string(),
            "cannot look for the maintenance file; maintenance stays as it is"
        ),
    }
}

const POLL_INTERVAL: Duration = Duration::from_secs(1);
