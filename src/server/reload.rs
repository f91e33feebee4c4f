//! SIGHUP: all or nothing. The new configuration is loaded, built and bound before anything is
//! swapped; a fault anywhere leaves everything as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::listeners::Listeners;
use super::reload_report;
use crate::config::settings::Settings;
use crate::config::toml::diagnostic::Diagnostics;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::protocol::response::{self, Change};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::state::{LastReload, ProxyState};
use crate::sys::clock::wall;
use crate::sys::systemd;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log;

/// Where the configuration comes from, each time.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file.
    File(PathBuf),
    /// Built into the program.
    Fixed(Box<Settings>),
}

impl ConfigSource {
    /// Reads it anew; faults in words, one a line.
    pub fn load(&self) -> Result<Settings, Vec<String>> {
        match self {
            Self::File(path) => Settings::load(path).map_err(|faults| faults.lines().collect()),
            Self::Fixed(settings) => Ok((**settings).clone()),
        }
    }

    /// Faults that showed later, one a line, with their place if there is a file.
    pub fn place(&self, faults: &[LateDiagnostic]) -> Vec<String> {
        match (self, faults) {
            (Self::File(path), [first, rest @ ..]) => {
                Diagnostics::from_late(path, first, rest).lines().collect()
            }
            (Self::File(_) | Self::Fixed(_), _) => {
                faults.iter().map(|later| format!("{}: {}", later.key, later.problem)).collect()
            }
        }
    }
}

/// Reloads, and says how it went: what changed, or the faults, one a line.
pub async fn reload(
    gate: &Arc<ProxyState>,
    doors: &mut Listeners,
    source: &ConfigSource,
) -> Result<response::ReloadResult, Vec<String>> {
    systemd::reloading();
    let before = gate.snapshot();
    let mut outcome = String::new();
    let told = match try_reload(gate, doors, source, &before).await {
        Ok(()) => Ok(reload_report::changes(gate, &before.settings, &gate.snapshot().settings)),
        Err(faults) => {
            reopen(&before.settings, source, &faults).await;
            outcome = format!("; reload refused: {} faults, see the journal", faults.len());
            Err(faults)
        }
    };
    gate.metrics.reloaded(told.is_ok());
    gate.last_reload.store(Some(Arc::new(LastReload { at: wall(), outcome: told.clone() })));
    // The log comes after the metrics and the status page, which agree with it from the first line.
    match &told {
        Ok(changes) => {
            report(gate, &before.settings, changes);
            warn(source, &gate.snapshot().warnings(wall()));
        }
        Err(faults) => report_rejected(&before, faults),
    }
    systemd::ready(&(status(gate) + &outcome));
    told.map(|changes| response::ReloadResult { generation: gate.snapshot().generation, changes })
}

/// What a reload of this text would change, if it stood in a file of this path, or its faults, one
/// a line. Reads certificates, and may block for it; changes nothing, binds nothing.
pub fn preview(
    gate: &ProxyState,
    path: &Path,
    text: &str,
) -> Result<response::ReloadResult, Vec<String>> {
    let before = gate.snapshot();
    let path = named_alike(path, before.settings.file.as_deref());
    let name = path.display().to_string();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let settings =
        Settings::parse(text, &name).map_err(|faults| faults.lines().collect::<Vec<_>>())?;
    let settings = Settings { file: Some(path), ..settings };
    Snapshot::validate(&settings, &gate.ticketer, gate.descriptors).map_err(|faults| {
        let placed = |(first, rest): (&LateDiagnostic, &[LateDiagnostic])| {
            Diagnostics::from_late_in_text(&name, text, first, rest).lines().collect::<Vec<_>>()
        };
        faults.split_first().map(placed).unwrap_or_default()
    })?;
    let changes = reload_report::changes(gate, &before.settings, &settings);
    Ok(response::ReloadResult { generation: before.generation, changes })
}

/// The path as it would be written beside the file in force: other words for the same folder are no
/// change.
fn named_alike(path: &Path, in_force: Option<&Path>) -> PathBuf {
    let folder = |file: &Path| match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new(".").canonicalize().ok(),
        folder => folder?.canonicalize().ok(),
    };
    match (in_force, path.file_name()) {
        (Some(file), Some(name))
            if folder(file).is_some_and(|there| folder(path) == Some(there)) =>
        {
            file.with_file_name(name)
        }
        (_, _) => path.to_owned(),
    }
}

/// Tells what a reload has changed.
fn report(gate: &ProxyState, before: &Settings, changes: &[Change]) {
    let after = gate.snapshot();
    for key in reload_report::needs_restart(changes) {
        warn!(key, "this change takes effect at the next restart");
    }
    info!(
        generation = after.generation,
        changed = reload_report::words(changes),
        config_sha256 = after.settings.source_map.fingerprint(),
        tunnels = gate.concurrency.tunnels(),
        "reloaded; open tunnels keep their route"
    );
    // Last, so that a reload is told of even where it makes all quiet. Where the file says what it
    // said before, a level that was set since stays.
    if before.log.level != after.settings.log.level {
        log::set_log_level(after.settings.log.level);
    }
}

/// Logs each fault of a rejected reload, and that the previous configuration stays active.
fn report_rejected(before: &Snapshot, faults: &[String]) {
    for fault in faults {
        error!(fault, "reload refused");
    }
    error!(
        faults = faults.len(),
        generation = before.generation,
        "the configuration in force stays as it was"
    );
}

/// Tells of what is lawful and may yet be a mistake, each with its place in the file.
pub fn warn(source: &ConfigSource, warnings: &[LateDiagnostic]) {
    let lines = source.place(warnings);
    let more = warnings.len().saturating_sub(lines.len());
    for warning in lines {
        warn!(warning, "configuration warning");
    }
    if more > 0 {
        warn!(more, "more configuration warnings; run `tidegate check` to list them");
    }
}

/// One line for `systemctl status`.
pub fn status(gate: &ProxyState) -> String {
    let generation = gate.snapshot();
    format!(
        "generation {}: {} listeners, {} routes, {} tunnels",
        generation.generation,
        generation.settings.listeners.len(),
        generation.settings.routes.len(),
        gate.concurrency.tunnels()
    )
}

async fn try_reload(
    gate: &Arc<ProxyState>,
    doors: &mut Listeners,
    source: &ConfigSource,
    before: &Arc<Snapshot>,
) -> Result<(), Vec<String>> {
    let after = build(gate.clone(), source.clone(), before.clone()).await?;
    let access = open_access(&after.settings, source)?;
    let listeners = after.settings.listeners.clone();
    let bound = doors.bind(&listeners).map_err(|fault| vec![fault.to_string()])?;
    gate.swap(after);
    let outgoing = access.activate();
    doors.open(gate, bound);
    doors.keep(&listeners).await;
    // Whoever moved the old file may do with it as they like once the reload is reported.
    outgoing.finish().await;
    Ok(())
}

/// Reads and builds beside everything else: thousands of certificates take their time.
async fn build(
    gate: Arc<ProxyState>,
    source: ConfigSource,
    before: Arc<Snapshot>,
) -> Result<Snapshot, Vec<String>> {
    let build = move || {
        let settings = source.load()?;
        Snapshot::build(settings, Some(&before), &gate.ticketer, gate.descriptors)
            .map_err(|faults| source.place(&faults))
    };
    let built = spawn_blocking(build).await;
    built.unwrap_or_else(|_| Err(vec!["the configuration could not be built".into()]))
}

/// Whoever rotates files asks for a new one, not for a new configuration: they get it even if
/// there is a fault in the latter.
async fn reopen(settings: &Settings, source: &ConfigSource, told: &[String]) {
    match open_access(settings, source) {
        Ok(access) => access.activate().finish().await,
        Err(faults) => {
            for fault in faults.iter().filter(|fault| !told.contains(fault)) {
                error!(fault, "the access log stays as it was");
            }
        }
    }
}

fn open_access(settings: &Settings, source: &ConfigSource) -> Result<AccessLog, Vec<String>> {
    match settings.check_access_log_target() {
        Some(refused) => Err(source.place(&[refused])),
        None => AccessLog::open(settings).map_err(|fault| vec![fault.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
        [[route]]\nname = \"a\"\nhost = \"*\"\norigins = [\"*\"]\nbackends = [\"127.0.0.1:9\"]\n";

    fn gate() -> ProxyState {
        let ticketer = crate::tls::terminate::ticketer().unwrap();
        let settings = Settings::parse(PLAIN, "proxy.toml").unwrap();
        let generation = Snapshot::build(settings, None, &ticketer, 1000).unwrap();
        ProxyState::new(Arc::new(crate::net::network::SystemNet), generation, ticketer, 1000)
    }

    #[test]
    fn a_preview_tells_what_would_change_and_changes_nothing() {
        let gate = gate();
        let path = Path::new("/nowhere/proxy.toml");
        let text = format!("\u{feff}{PLAIN}").replace("\"a\"", "\"b\"") + "[log]\nlevel = \"warn\"";
        let seen = preview(&gate, path, &text).unwrap();
        let told: Vec<String> = seen
            .changes
            .iter()
            .map(|of| format!("{} {} {}", of.section, of.name, of.action))
            .collect();
        assert_eq!(told, ["route b added", "route a removed", "log  changed"]);
        assert_eq!((seen.generation, gate.snapshot().generation), (1, 1));
        assert_eq!(gate.metrics.routes().len(), 1);
        assert!(gate.last_reload.load().is_none());
        assert_eq!(preview(&gate, path, PLAIN).unwrap().changes, []);
    }

    #[test]
    fn a_preview_finds_what_a_reload_would_find() {
        let gate = gate();
        let faults = |text: &str| preview(&gate, Path::new("x/new.toml"), text).unwrap_err();
        let unknown = faults(&format!("{PLAIN}zebra = 1\n[limits]\nidel = \"1h\"\n"));
        assert_eq!(unknown.len(), 2);
        assert!(unknown[1].starts_with("x/new.toml:11:1: limits.idel: unknown key"), "{unknown:?}");
        let pair = "[[certificate]]\nchain = \"no.pem\"\nkey = \"no.key\"\n";
        let missing = faults(&format!("{PLAIN}{pair}[concurrency]\nconnections = 900\n"));
        assert!(missing[0].starts_with("x/new.toml:10:9: certificate[0].chain: "), "{missing:?}");
        assert!(missing[1].contains("concurrency.connections: 900"), "{missing:?}");
    }
}
