//! Networks of trusted proxies and of clients: `"10.0.0.0/8"`, or a single address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use super::address_mistake::find_mistake;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;

/// A network that does not contain all addresses, and that a peer's address can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

impl TomlValue for Network {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        text(value, EXPECTED).and_then(Self::parse)
    }
}

impl Network {
    /// Parses a network or a single address.
    ///
    /// # Errors
    /// Describes the mistake and suggests a valid value.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let net = parse(text)?;
        if net.prefix_len() == 0 {
            return Err(covers_every_address(&format!("{net} covers"), net));
        }
        if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
            let problem = Problem::new(format!("{} cannot be the address of a proxy", net.addr()));
            return Err(problem.help(PROXIES));
        }
        match mapped(net) {
            None => Ok(Self(net)),
            Some(v4) if v4.prefix_len() == 0 => {
                Err(covers_every_address(&format!("\"{text}\" covers"), v4))
            }
            Some(v4) => Err(is_mapped(text, v4)),
        }
    }
}

/// A network of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientNetwork(pub(crate) IpNet);

impl TomlValue for ClientNetwork {
    fn list_help(_key: &str, value: &DeValue<'_>) -> Option<String> {
        value.as_str().filter(|text| EVERY.contains(text)).map(|_| ALL.to_owned())
    }

    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, EXPECTED)?;
        if EVERY.contains(&text) {
            let problem = Problem::new(format!("\"{text}\" is not an IP address"));
            return Err(problem.help(ALL));
        }
        let net = parse(text)?;
        if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
            let problem = Problem::new(format!("{} cannot be the address of a client", net.addr()));
            return Err(problem.help(ALL));
        }
        mapped(net).map_or(Ok(Self(net)), |v4| Err(is_mapped(text, v4)))
    }
}

fn parse(text: &str) -> Result<IpNet, Problem> {
    match text.split_once('/') {
        Some((address, prefix)) => parse_network(text, address, prefix),
        None => parse_address(text).map(IpNet::from),
    }
}

/// The IPv4 network that an IPv4-mapped IPv6 network stands for. Such addresses of peers are converted to IPv4
/// before they are looked up, so the network would contain none.
fn mapped(net: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = net else { return None };
    let bits = v6.prefix_len().checked_sub(MAPPED)?;
    Ipv4Net::new(v6.addr().to_ipv4_mapped()?, bits).ok().map(IpNet::V4)
}

fn is_mapped(text: &str, v4: IpNet) -> Problem {
    Problem::new(format!("\"{text}\" is an IPv4-mapped IPv6 address"))
        .help(format!("write \"{}\"", show_network(v4)))
}

/// The problem of a network or list that covers every address of the family of `all`. `subject` ends
/// with the verb.
pub(crate) fn covers_every_address(subject: &str, all: IpNet) -> Problem {
    let family = if all.addr().is_ipv4() { "IPv4" } else { "IPv6" };
    let problem =
        format!("{subject} every {family} address, so any client could forge its address");
    Problem::new(problem).help(PROXIES)
}

fn parse_network(text: &str, address: &str, prefix: &str) -> Result<IpNet, Problem> {
    let address = parse_address(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match prefix.parse::<u8>() {
        Ok(bits) if bits <= most && !prefix.starts_with('+') => bits,
        Ok(_) | Err(_) => {
            let problem = Problem::new(format!("\"{prefix}\" is not a prefix length"));
            let mask = prefix.parse::<Ipv4Addr>().ok().filter(|_| address.is_ipv4());
            let bits = mask.and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok());
            return Err(match bits {
                Some(bits) => problem.help(format!("write \"{address}/{bits}\"")),
                None => problem.help(format!("write 1 to {most} after the slash")),
            });
        }
    };
    let net = IpNet::new(address, bits)
        .map_err(|_| Problem::new(format!("\"{text}\" is not a network")).help(EXAMPLE))?;
    let whole = net.trunc();
    if whole != net {
        let problem = Problem::new(format!("\"{text}\" has bits set after the first {bits}"));
        let help = format!("write \"{whole}\" for the network, or \"{address}\" for this address");
        return Err(problem.help(help));
    }
    Ok(net)
}

fn parse_address(text: &str) -> Result<IpAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let problem = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Err(problem("has a port").help(format!("write \"{}\"", address.ip())));
    }
    let bare = text.trim_matches(['[', ']']);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(problem("has brackets").help(format!("write \"{address}\"")));
    }
    if let Some(Ok(address)) = bare.split_once('%').map(|(address, _)| address.parse::<IpAddr>()) {
        return Err(problem("has a zone").help(format!("write \"{address}\"")));
    }
    Err(find_mistake(text).unwrap_or_else(|| problem("is not an IP address").help(EXAMPLE)))
}

/// Formats a network, a single address without its prefix length.
pub(crate) fn show_network(net: IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;
const EXAMPLE: &str = "write an address or a network, as in \"10.0.0.7\" or \"10.0.0.0/8\"";
const EXPECTED: &str = "a network such as \"10.0.0.0/8\"";
/// What other programs accept for every address.
const EVERY: [&str; 3] = ["all", "any", "*"];
const ALL: &str = "remove it: an address in neither list is rejected if there is an allow list, and else admitted";
const PROXIES: &str = "list the addresses of your own proxies only";
