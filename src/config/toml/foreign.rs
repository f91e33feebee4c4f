//! Recognises the configuration of another program where TOML is expected.

use super::diagnostic::Problem;

/// A format that is often written instead of TOML.
struct ForeignFormat {
    /// Whether a line of it is recognised.
    matches: fn(&str) -> bool,
    name: &'static str,
    /// The page that has the keys to write instead.
    page: &'static str,
}

/// The problem of lines that are not TOML; `None` if none of them is recognised.
pub(crate) fn foreign_configuration<'t>(lines: impl Iterator<Item = &'t str>) -> Option<Problem> {
    let lines: Vec<&str> = lines.map(without_comment).collect();
    let format = FORMATS.iter().find(|format| lines.iter().any(|line| (format.matches)(line)))?;
    let problem = Problem::new(format!("this looks like {}, but this file is TOML", format.name));
    Some(problem.help(format!("write KEY = VALUE below [TABLE]; {} has the keys", format.page)))
}

fn without_comment(line: &str) -> &str {
    line.split(" #").next().unwrap_or(line).trim_end()
}

fn is_nginx(line: &str) -> bool {
    line.ends_with(';')
}

fn is_caddy(line: &str) -> bool {
    line.ends_with('{')
}

fn is_haproxy(line: &str) -> bool {
    let section = line.split_whitespace().next().filter(|_| !line.starts_with([' ', '\t']));
    matches!(section, Some("global" | "defaults" | "frontend" | "backend" | "listen"))
}

fn is_yaml(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("- ") || line.split_whitespace().next().is_some_and(|word| word.ends_with(':'))
}

const fn format(
    matches: fn(&str) -> bool,
    name: &'static str,
    page: &'static str,
) -> ForeignFormat {
    ForeignFormat { matches, name, page }
}

/// Blocks of nginx begin like those of Caddy, so nginx comes first.
const FORMATS: [ForeignFormat; 4] = [
    format(is_nginx, "a configuration of nginx", "docs/from-nginx.md"),
    format(is_caddy, "a configuration of Caddy", "docs/from-caddy.md"),
    format(is_haproxy, "a configuration of HAProxy", "docs/from-haproxy.md"),
    format(is_yaml, "YAML", "docs/configuration.md"),
];
