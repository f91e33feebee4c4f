//! Why requests are rejected during a drain.

use std::sync::Arc;

use super::route::Route;
use super::state::ProxyState;
use crate::upstream::pool::Backend;

/// What of this route is drained, and the command that undoes it.
pub fn describe(state: &ProxyState, route: &Route) -> String {
    if state.is_shutting_down() {
        return "the process is shutting down".to_owned();
    }
    let name = &route.name;
    let (subject, scope) = if state.is_draining() {
        ("everything".to_owned(), "--all".to_owned())
    } else if route.is_draining() {
        (format!("route {name}"), format!("--route {name}"))
    } else {
        let backends = route.pool.backends();
        let is_draining = |backend: &&Arc<Backend>| backend.is_draining();
        let shown = |backend: &Arc<Backend>| match backend.is_name_draining() {
            true => backend.listed_id().clone(),
            false => backend.id.clone(),
        };
        let id = backends.iter().find(is_draining).map_or_else(|| "ID".into(), shown);
        let is_whole = backends.iter().filter(is_draining).count() == backends.len();
        let subject = if is_whole && backends.len() > 1 { "every backend" } else { "the backend" };
        (format!("{subject} of route {name}"), format!("--backend {id}"))
    };
    format!("{subject} is drained; `tidegate ctl undrain {scope}` undoes it")
}
