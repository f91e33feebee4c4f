//! Addresses that tidegate itself listens on, and what is said of slips in any address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use toml::de::DeValue;

use super::patterns::digits;
use super::scalars::{number, text};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::reader::TomlValue;

impl TomlValue for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        listening(value, ["0.0.0.0", "[::]"], 443)
    }
}

/// Where the admin listener is: suggestions lead to nobody but this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress(pub(crate) SocketAddr);

impl TomlValue for AdminAddress {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        listening(value, ["127.0.0.1", "[::1]"], 9180).map(Self)
    }
}

/// What is wrong with an address, where it was written with a slip of the hand.
pub(crate) fn slip(text: &str) -> Option<Problem> {
    let wrong = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if text.contains(char::is_whitespace) {
        let help = match text.trim() {
            plain if plain.contains(char::is_whitespace) => "write it without".to_owned(),
            plain => format!("write \"{plain}\""),
        };
        return Some(wrong("has a blank in it").help(help));
    }
    let parts: Vec<&str> = text.split('.').collect();
    let plain: Vec<&str> = parts.iter().map(|part| part.trim_start_matches('0')).collect();
    let plain = plain.iter().map(|part| if part.is_empty() { "0" } else { part });
    let plain = plain.collect::<Vec<&str>>().join(".");
    let zeros =
        text.parse::<Ipv4Addr>().is_err() && parts.iter().all(|part| digits(part).is_some());
    // To some programs 010 is 8.
    (zeros && plain.parse::<Ipv4Addr>().is_ok()).then(|| {
        wrong("has a number with a zero in front").help(format!("write \"{plain}\" if it is that"))
    })
}

/// An address and port; `any` are the ones to suggest, of IPv4 and of IPv6.
fn listening(value: &DeValue<'_>, any: [&str; 2], usual: u16) -> Result<SocketAddr, Problem> {
    let [v4, v6] = any;
    let with = |v4: &str, v6: &str, port: &str| {
        format!("write \"{v4}:{port}\", or \"{v6}:{port}\" for IPv6")
    };
    let example =
        format!("write an IP address and a port: \"{v4}:{usual}\", or \"{v6}:{usual}\" for IPv6");
    if let Ok(Some(port)) = number(value) {
        return Err(Problem::new(format!("{port} has no IP address")).help(with(
            v4,
            v6,
            &port.to_string(),
        )));
    }
    let text = text(value, "an address and port").map_err(|wrong| wrong.help(&example))?;
    let wrong = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        // Listening sockets are IPv6 only, so that this one could never be bound.
        return match address.ip().to_canonical() {
            ip if ip == address.ip() => Ok(address),
            ip => Err(wrong("is an IPv4 address in IPv6 clothing")
                .help(format!("write \"{ip}:{}\"", address.port()))),
        };
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let meant = SocketAddr::new(ip, usual);
        return Err(wrong("has no port").help(format!("write \"{meant}\" if the port is {usual}")));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match (host, digits(port)) {
        ("" | "*", Some(_)) => Err(wrong("has no IP address").help(with(v4, v6, port))),
        ("localhost", Some(_)) => {
            Err(wrong("is a name, not an IP address").help(with("127.0.0.1", "[::1]", port)))
        }
        (host, _) => Err(match slip(text).or_else(|| slip(host)) {
            Some(slip) => slip,
            None => wrong("is not an IP address with a port").help(example),
        }),
    }
}
