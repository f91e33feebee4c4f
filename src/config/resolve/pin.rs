//! Pin cookies, and the combinations of attributes that browsers ignore.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::defaults::{optional_file, value_or};
use crate::config::schema::pool::{BackendItem, PinTable};
use crate::config::settings::choice::{CookieAttributes, PinSettings, SameSite};
use crate::config::toml::diagnostic::{Location, Problem};
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::{Located, Parsed};
use crate::config::values::cookie::{CookieDomain, CookieName, CookiePath, CookieValue};
use crate::config::values::scalars::OrOff;

/// Converts a table `[pool.pin]`; `dir` is the folder of the file.
pub(crate) fn pin(
    table: &PinTable,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> Option<PinSettings> {
    let attributes = attributes(table);
    let key_file = optional_file(&table.key_file, dir);
    let Some(Located { value: OrOff(Some(CookieName(cookie))), location }) = table.cookie.located()
    else {
        let key_file = table.key_file.location().filter(|_| key_file.is_some());
        if let (Some(location), Parsed::Missing) = (key_file, &table.cookie) {
            let problem = Problem::new("there is no name for the cookie");
            sink.report(location, problem.help("write cookie = \"tidegate\" in [pool.pin]"));
        }
        return None;
    };
    if key_file.is_none() && !table.key_file.is_invalid() {
        let problem = Problem::new("the cookie needs a key");
        let help = "write key_file = \"pin.key\", and create it with\n`umask 077; openssl rand -hex 32 > pin.key`";
        sink.report(location, problem.help(help));
    }
    check_attributes(table, cookie, location, &attributes, sink);
    Some(PinSettings { cookie: cookie.clone(), key_file: key_file?, attributes })
}

fn attributes(table: &PinTable) -> CookieAttributes {
    let default = CookieAttributes::default();
    CookieAttributes {
        path: value_or(&table.path, CookiePath(default.path)).0,
        domain: value_or(&table.domain, OrOff(None)).0.map(|CookieDomain(domain)| domain),
        secure: value_or(&table.secure, default.secure),
        http_only: value_or(&table.http_only, default.http_only),
        same_site: value_or(&table.same_site, default.same_site),
        partitioned: value_or(&table.partitioned, default.partitioned),
    }
}

/// Reports combinations with which browsers do not keep the cookie.
fn check_attributes(
    table: &PinTable,
    cookie: &str,
    location: &Location,
    attributes: &CookieAttributes,
    sink: &mut DiagnosticSink<'_>,
) {
    // Names are compared without case: `__HOST-` is reserved as well.
    let name = cookie.to_ascii_lowercase();
    let is_host = name.starts_with("__host-");
    let is_secure_name = is_host || name.starts_with("__secure-");
    let secure_help = "remove secure = false";
    if let Some(secure) = table.secure.location().filter(|_| !attributes.secure) {
        if attributes.same_site == SameSite::None {
            let problem = "browsers ignore a cookie with SameSite=None that is not Secure";
            sink.report(secure, Problem::new(problem).help(secure_help));
        } else if attributes.partitioned {
            let problem = "browsers ignore a Partitioned cookie that is not Secure";
            sink.report(secure, Problem::new(problem).help(secure_help));
        } else if is_secure_name {
            let problem =
                format!("browsers ignore a cookie with the name {cookie} that is not Secure");
            sink.report(
                secure,
                Problem::new(problem).help("remove secure = false, or use another name"),
            );
        }
    }
    if is_host && (attributes.domain.is_some() || attributes.path != "/") {
        let problem =
            format!("browsers ignore {cookie} with a domain, or with a path other than \"/\"");
        sink.report(location, Problem::new(problem).help("use a name without __Host-"));
    }
}

/// Reports values of other proxies that cannot be used: without a pin cookie, or of several backends.
pub(crate) fn check_cookie_values(
    backends: &Parsed<Vec<Located<BackendItem>>>,
    has_pin: bool,
    sink: &mut DiagnosticSink<'_>,
) {
    let mut seen: HashMap<&Arc<str>, &str> = HashMap::new();
    for item in backends.value().into_iter().flatten() {
        let Some(Located { value: OrOff(Some(CookieValue(value))), location }) =
            item.value.cookie_value.located()
        else {
            continue;
        };
        if !has_pin {
            let problem = Problem::new("this has no effect without a pin cookie");
            sink.report(location, problem.help("write [pool.pin] with cookie and key_file"));
        } else if let Some(other) = seen.insert(value, &item.location.key) {
            let problem = Problem::new(format!("\"{value}\" is already used by {other}"));
            sink.report(location, problem.help("a value leads to one backend"));
        }
    }
}
