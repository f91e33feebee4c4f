//! Reloads (SIGHUP, `tidegate ctl reload`). The new configuration is loaded, built and its
//! listeners bound before anything is replaced; an error at any step leaves everything unchanged.

pub mod error;
pub(crate) mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use self::error::ReloadError;
use super::listeners::Listeners;
use super::name_lookups::first_lookups;
use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Diagnostics;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::control_protocol::response::{self, Change};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::{LastReload, ProxyState, ReloadErrors};
use crate::sys::clock::wall;
use crate::sys::systemd;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log;

/// Where a reload takes the configuration from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// The file with this path.
    File(PathBuf),
    /// Settings built into the program.
    Fixed(Box<Settings>),
}

impl ConfigSource {
    /// Loads the settings again.
    ///
    /// # Errors
    /// All errors of the file.
    pub fn load(&self) -> Result<Settings, Diagnostics> {
        match self {
            Self::File(path) => Settings::load(path),
            Self::Fixed(settings) => Ok((**settings).clone()),
        }
    }

    /// Adds the positions in the file, if there is one, to diagnostics found after parsing.
    pub fn locate(&self, errors: &[LateDiagnostic]) -> ReloadError {
        match (self, errors) {
            (Self::File(path), [first, rest @ ..]) => {
                ReloadError::Config(Diagnostics::from_late(path, first, rest))
            }
            (Self::File(_) | Self::Fixed(_), _) => ReloadError::Builtin(errors.to_vec()),
        }
    }
}

/// Reloads the configuration and logs the outcome. Returns the changes.
///
/// # Errors
/// Why it was rejected; nothing has changed.
pub async fn reload(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
) -> Result<response::ReloadResult, ReloadError> {
    systemd::reloading();
    let before = state.snapshot();
    let mut status_note = String::new();
    let outcome = match try_reload(state, listeners, source, &before).await {
        Ok(()) => {
            let after = state.snapshot();
            let after = (&after.settings, &after.error_pages);
            Ok(report::changes(state, (&before.settings, &before.error_pages), after))
        }
        Err(error) => {
            reopen_access_log(&before.settings, source, &error).await;
            status_note = format!("; reload rejected (errors: {}), see the journal", error.count());
            Err(error)
        }
    };
    state.metrics.reloaded(outcome.is_ok());
    let shown = outcome
        .as_ref()
        .cloned()
        .map_err(|error| ReloadErrors { lines: error.lines(), count: error.count() });
    state.last_reload.store(Some(Arc::new(LastReload { at: wall(), outcome: shown })));
    // Logged last, so that the metrics and the status page agree with the log from the first line.
    match &outcome {
        Ok(changes) => {
            report(state, &before.settings, changes);
            warn(source, &state.snapshot().warnings(wall()));
        }
        Err(error) => report_rejected(&before, error),
    }
    systemd::ready(&(status(state) + &status_note));
    outcome
        .map(|changes| response::ReloadResult { generation: state.snapshot().generation, changes })
}

/// The changes that a reload would make if the file at this path had this text. Reads certificates,
/// which may block; changes and binds nothing.
///
/// # Errors
/// The error that a reload would report.
pub fn preview(
    state: &ProxyState,
    path: &Path,
    text: &str,
) -> Result<response::ReloadResult, ReloadError> {
    let before = state.snapshot();
    let path = comparable_path(path, before.settings.file.as_deref());
    let name = path.display().to_string();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let settings = Settings { file: Some(path), ..Settings::parse(text, &name)? };
    let validated =
        Snapshot::validate(&settings, Some(&before), &state.ticketer, state.descriptors).map_err(
            |errors| match errors.as_slice() {
                [first, rest @ ..] => {
                    ReloadError::Config(Diagnostics::from_late_in_text(&name, text, first, rest))
                }
                [] => ReloadError::Builtin(errors),
            },
        )?;
    let after = (&settings, &validated.error_pages);
    let changes = report::changes(state, (&before.settings, &before.error_pages), after);
    Ok(response::ReloadResult { generation: before.generation, changes })
}

/// The path with the folder of the active file if both are in the same folder, so that another
/// spelling of the folder is not reported as a change.
fn comparable_path(path: &Path, active: Option<&Path>) -> PathBuf {
    let folder = |file: &Path| match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new(".").canonicalize().ok(),
        folder => folder?.canonicalize().ok(),
    };
    match (active, path.file_name()) {
        (Some(file), Some(name))
            if folder(file).is_some_and(|active| folder(path) == Some(active)) =>
        {
            file.with_file_name(name)
        }
        (_, _) => path.to_owned(),
    }
}

/// Logs the changes of a reload and applies a changed log level.
fn report(state: &ProxyState, before: &Settings, changes: &[Change]) {
    let after = state.snapshot();
    for key in report::needs_restart(changes).filter(|key| !state.still_has(key)) {
        warn!(key = key.key, "this change takes effect at the next restart");
    }
    info!(
        generation = after.generation,
        changed = report::summary(changes),
        config_sha256 = after.settings.source_map.fingerprint(),
        tunnels = state.concurrency.tunnels(),
        "reloaded; open tunnels are not affected"
    );
    // Last, so that the reload is logged even if the new level would suppress it. If the level in
    // the file is unchanged, a level set with `tidegate ctl` stays.
    if before.log.level != after.settings.log.level {
        log::set_log_level(after.settings.log.level);
    }
}

/// Logs each error of a rejected reload, and that the previous configuration stays active.
fn report_rejected(before: &Snapshot, rejected: &ReloadError) {
    for error in rejected.lines() {
        error!(error, "reload rejected");
    }
    error!(
        errors = rejected.count(),
        generation = before.generation,
        "reload rejected; the previous configuration stays active"
    );
}

/// Logs configuration warnings, each with its position in the file.
pub fn warn(source: &ConfigSource, warnings: &[LateDiagnostic]) {
    let lines = source.locate(warnings).lines();
    let more = warnings.len().saturating_sub(lines.len());
    for warning in lines {
        warn!(warning, "configuration warning");
    }
    if more > 0 {
        warn!(more, "more configuration warnings; run `tidegate check` to list them");
    }
}

/// The status line shown by `systemctl status`.
pub fn status(state: &ProxyState) -> String {
    let snapshot = state.snapshot();
    format!(
        "configuration {}, listeners: {}, routes: {}, tunnels: {}",
        snapshot.generation,
        snapshot.settings.listeners.len(),
        snapshot.settings.routes.len(),
        state.concurrency.tunnels()
    )
}

async fn try_reload(
    state: &Arc<ProxyState>,
    listeners: &mut Listeners,
    source: &ConfigSource,
    before: &Arc<Snapshot>,
) -> Result<(), ReloadError> {
    let after = build(state.clone(), source.clone(), before.clone()).await?;
    let access_log = open_access_log(&after.settings, source)?;
    let wanted = after.settings.listeners.clone();
    let bound = listeners.bind(&wanted)?;
    first_lookups(&state.net, &after, Some(before)).await;
    state.swap(after);
    state.certificate_orders.notify_one();
    let replaced = access_log.activate();
    listeners.start_accepting(state, bound);
    listeners.retain(&wanted).await;
    // Once the reload is reported, nothing more is written to the old file.
    replaced.finish().await;
    Ok(())
}

/// Loads and builds in a blocking thread, as thousands of certificates take a while.
async fn build(
    state: Arc<ProxyState>,
    source: ConfigSource,
    before: Arc<Snapshot>,
) -> Result<Snapshot, ReloadError> {
    let build = move || {
        let settings = source.load()?;
        Snapshot::build(settings, Some(&before), &state.ticketer, state.descriptors)
            .map_err(|errors| source.locate(&errors))
    };
    spawn_blocking(build).await.unwrap_or(Err(ReloadError::Panicked))
}

/// Reopens the access log after a rejected reload, as log rotation must work even if the
/// configuration contains an error.
async fn reopen_access_log(settings: &Settings, source: &ConfigSource, reported: &ReloadError) {
    match open_access_log(settings, source) {
        Ok(access) => access.activate().finish().await,
        Err(failed) => {
            let reported = reported.lines();
            for error in failed.lines().iter().filter(|error| !reported.contains(error)) {
                error!(error, "cannot reopen the access log; records still go to the old file");
            }
        }
    }
}

fn open_access_log(settings: &Settings, source: &ConfigSource) -> Result<AccessLog, ReloadError> {
    match settings.check_access_log_target() {
        Some(error) => Err(source.locate(&[error])),
        None => Ok(AccessLog::open(settings)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
        [[route]]\nname = \"a\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:9\"]\n";

    fn proxy_state() -> ProxyState {
        let ticketer = crate::tls::terminate::ticketer().unwrap();
        let settings = Settings::parse(PLAIN, "proxy.toml").unwrap();
        let snapshot = Snapshot::build(settings, None, &ticketer, 1000).unwrap();
        ProxyState::new(Arc::new(crate::net::network::SystemNet), snapshot, ticketer, 1000)
    }

    #[test]
    fn preview_lists_changes_and_applies_none() {
        let state = proxy_state();
        let path = Path::new("/nowhere/proxy.toml");
        let text = format!("\u{feff}{PLAIN}").replace("\"a\"", "\"b\"") + "[log]\nlevel = \"warn\"";
        let result = preview(&state, path, &text).unwrap();
        let changes: Vec<String> = result
            .changes
            .iter()
            .map(|of| format!("{} {} {}", of.section, of.name, of.action))
            .collect();
        let expected = [
            "route b added",
            "backend 127.0.0.1:9 of b added",
            "route a removed",
            "backend 127.0.0.1:9 of a removed",
            "log  changed",
        ];
        assert_eq!(changes, expected);
        assert_eq!((result.generation, state.snapshot().generation), (1, 1));
        assert_eq!(state.metrics.routes().len(), 1);
        assert!(state.last_reload.load().is_none());
        assert_eq!(preview(&state, path, PLAIN).unwrap().changes, []);
    }

    #[test]
    fn taking_back_a_change_that_waits_for_a_restart_needs_none() {
        let state = proxy_state();
        let path = Path::new("/nowhere/proxy.toml");
        let text = format!("{PLAIN}[admin]\naddress = \"127.0.0.1:9190\"\n");
        let effect = |text: &str| preview(&state, path, text).unwrap().changes[0].effect.clone();
        assert!(effect(&text).starts_with("requires a restart"), "{}", effect(&text));
        let settings = Settings::parse(&text, "proxy.toml").unwrap();
        let before = state.snapshot();
        let after = Snapshot::build(settings, Some(&before), &state.ticketer, 1000).unwrap();
        state.swap(after);
        assert_eq!(state.restart_required(), ["admin.address"]);
        assert!(effect(PLAIN).starts_with("the process still has this value"), "{}", effect(PLAIN));
        let third = text.replace("9190", "9191");
        assert!(effect(&third).starts_with("requires a restart"), "{}", effect(&third));
    }

    #[test]
    fn preview_reports_the_errors_of_a_reload() {
        let state = proxy_state();
        let errors =
            |text: &str| preview(&state, Path::new("x/new.toml"), text).unwrap_err().lines();
        let unknown = errors(&format!("{PLAIN}zebra = 1\n[limits]\nidel = \"1h\"\n"));
        assert_eq!(unknown.len(), 2);
        assert!(unknown[1].starts_with("x/new.toml:11:1: limits.idel: unknown key"), "{unknown:?}");
        let pair = "[[certificate]]\nchain = \"no.pem\"\nkey = \"no.key\"\n";
        let missing = errors(&format!("{PLAIN}{pair}[concurrency]\nconnections = 900\n"));
        assert!(missing[0].starts_with("x/new.toml:10:9: certificate[0].chain: "), "{missing:?}");
        assert!(missing[2].contains("concurrency.connections: 900"), "{missing:?}");
    }
}
