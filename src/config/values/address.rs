//! Addresses that tidegate listens on.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::address_mistake::{find_mistake, help_for_parameters, split_parameters};
use super::patterns::check_port;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::digits;
use crate::config::toml::scalar::{number, text};
use crate::config::toml::value::TomlValue;

impl TomlValue for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        listen_address(value, ["0.0.0.0", "[::]"], 443)
    }
}

/// Address of the admin listener; suggestions are loopback addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress(pub(crate) SocketAddr);

impl TomlValue for AdminAddress {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        listen_address(value, ["127.0.0.1", "[::1]"], 9180).map(Self)
    }
}

/// Reads an address and port. `suggested` are the IPv4 and IPv6 addresses to suggest,
/// `default_port` is the port to suggest.
fn listen_address(
    value: &DeValue<'_>,
    suggested: [&str; 2],
    default_port: u16,
) -> Result<SocketAddr, Problem> {
    let [v4, v6] = suggested;
    let with = |v4: &str, v6: &str, port: &str| {
        format!("write \"{v4}:{port}\", or \"{v6}:{port}\" for IPv6")
    };
    let example = format!(
        "write an IP address and a port: \"{v4}:{default_port}\", or \"{v6}:{default_port}\" for IPv6"
    );
    if let Some(port) = number(value, u16::MAX)? {
        check_port(&port.to_string())?;
        return Err(Problem::new(format!("{port} has no IP address")).help(with(
            v4,
            v6,
            &port.to_string(),
        )));
    }
    let text = text(value, "an address and port").map_err(|problem| problem.help(&example))?;
    let problem = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if let Some((address, parameters)) = split_parameters(text) {
        let word = DeValue::String(address.into());
        let mistake = match listen_address(&word, suggested, default_port) {
            Ok(address) => problem("has more than an address").help(format!("write \"{address}\"")),
            Err(mistake) => mistake,
        };
        return Err(mistake.more_help(&help_for_parameters("listener", parameters)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        // IPv6 listening sockets are IPv6-only, so this address cannot be bound.
        return match address.ip().to_canonical() {
            ip if ip == address.ip() => Ok(address),
            ip => Err(problem("is an IPv4-mapped IPv6 address")
                .help(format!("write \"{ip}:{}\"", address.port()))),
        };
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let meant = SocketAddr::new(ip, default_port);
        return Err(
            problem("has no port").help(format!("write \"{meant}\" if the port is {default_port}"))
        );
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    // The system chooses a port for 0.
    if let (Some(1..), Err(problem)) = (digits(port), check_port(port)) {
        return Err(problem);
    }
    match (host, digits(port)) {
        ("" | "*", Some(_)) => Err(problem("has no IP address").help(with(v4, v6, port))),
        ("localhost", Some(_)) => {
            Err(problem("is a name, not an IP address").help(with("127.0.0.1", "[::1]", port)))
        }
        (host, _) => Err(match find_mistake(text).or_else(|| find_mistake(host)) {
            Some(mistake) => mistake,
            None => problem("is not an IP address with a port").help(example),
        }),
    }
}
