//! Notifications to the service manager (sd_notify(3)). They do nothing unless `NOTIFY_SOCKET` is set.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Reports that the process serves, at start or after a reload, with a status text for
/// `systemctl status`.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports the start of a reload; [`ready`] reports its end. `Type=notify-reload` requires the
/// monotonic time of the start.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            debug!(%error, "systemd: cannot read the monotonic clock, reload not announced")
        }
    }
}

/// Reports that the process drains and will exit.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Makes `pid` the main process of the service. Only the current main process may do that
/// (`NotifyAccess=main`).
pub fn set_main_pid(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// The time after which the service manager restarts the process if no [`keep_alive`] arrives
/// (`WatchdogSec=`); `None` if it has no watchdog.
pub fn watchdog_timeout() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())
}

/// Sends a keep-alive to the watchdog (`WATCHDOG=1`).
pub fn keep_alive() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Not a reason to stop serving.
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd: notification failed");
    }
}
