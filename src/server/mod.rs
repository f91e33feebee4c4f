//! What keeps a running process current: reloads, certificate renewal, listeners, handover to a new
//! process, probing backends that are down, closing tunnels of lost backends, and signals. SIGHUP arrives
//! in `signals`, is dispatched by [`app::run`](crate::app::run) and carried out by [`reload`].

pub(crate) mod address_files;
pub(crate) mod backend_probes;
pub(crate) mod cert_renewal;
pub(crate) mod certificate_orders;
pub(crate) mod critical_task;
pub(crate) mod file_watcher;
pub(crate) mod handover;
pub(crate) mod listeners;
pub(crate) mod local_port_warnings;
pub(crate) mod lost_backends;
pub(crate) mod maintenance_files;
pub(crate) mod name_lookups;
pub(crate) mod pool_probes;
pub(crate) mod rebalance;
pub mod reload;
pub mod signals;
pub(crate) mod successor;
