//! Networks of proxies whose word is taken: `"10.0.0.0/8"`, or one address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use super::address::slip;
use super::scalars::text;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::reader::TomlValue;

/// Never everybody, and never a network that no client's address can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

impl TomlValue for Network {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a network such as \"10.0.0.0/8\"")?;
        let net = match text.split_once('/') {
            Some((address, prefix)) => network(text, address, prefix)?,
            None => IpNet::from(single(text)?),
        };
        if net.prefix_len() == 0 {
            return Err(everybody(&format!("{net} is every address there is")));
        }
        if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
            let wrong = Problem::new(format!("no proxy has the address {}", net.addr()));
            return Err(wrong.help(PROXIES));
        }
        // Addresses of clients are unfolded before they are looked up.
        if let IpNet::V6(v6) = net
            && let Some(v4) = v6.addr().to_ipv4_mapped()
            && let Some(bits) = v6.prefix_len().checked_sub(MAPPED)
        {
            let wrong = Problem::new(format!("\"{text}\" is IPv4 in IPv6 clothing"));
            return Err(match Ipv4Net::new(v4, bits) {
                Ok(net) if bits > 0 => wrong.help(format!("write \"{}\"", show(net.into()))),
                Ok(_) | Err(_) => everybody("this is every IPv4 address there is"),
            });
        }
        Ok(Self(net))
    }
}

/// What is said of a list that leaves nobody out.
pub(crate) fn everybody(what: &str) -> Problem {
    Problem::new(format!("{what}, so that everybody could lie about his own")).help(PROXIES)
}

fn network(text: &str, address: &str, prefix: &str) -> Result<IpNet, Problem> {
    let address = single(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match prefix.parse::<u8>() {
        Ok(bits) if bits <= most && !prefix.starts_with('+') => bits,
        Ok(_) | Err(_) => {
            let wrong = Problem::new(format!("\"{prefix}\" is not a prefix length"));
            let mask = prefix.parse::<Ipv4Addr>().ok().filter(|_| address.is_ipv4());
            let bits = mask.and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok());
            return Err(match bits {
                Some(bits) => wrong.help(format!("write \"{address}/{bits}\"")),
                None => wrong.help(format!("write 1 to {most} behind the slash")),
            });
        }
    };
    let net = IpNet::new(address, bits)
        .map_err(|_| Problem::new(format!("\"{text}\" is not a network")).help(EXAMPLE))?;
    let whole = net.trunc();
    if whole != net {
        let wrong = Problem::new(format!("\"{text}\" has bits set behind its first {bits}"));
        let help = format!("write \"{whole}\" for the network, or \"{address}\" for this address");
        return Err(wrong.help(help));
    }
    Ok(net)
}

fn single(text: &str) -> Result<IpAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = |what: &str| Problem::new(format!("\"{text}\" {what}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Err(wrong("has a port").help(format!("write \"{}\"", address.ip())));
    }
    let bare = text.trim_matches(['[', ']']);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(wrong("has brackets").help(format!("write \"{address}\"")));
    }
    if let Some(Ok(address)) = bare.split_once('%').map(|(address, _)| address.parse::<IpAddr>()) {
        return Err(wrong("has a zone").help(format!("write \"{address}\"")));
    }
    Err(slip(text).unwrap_or_else(|| wrong("is not an IP address").help(EXAMPLE)))
}

/// Without the prefix, if it is one address.
fn show(net: IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

/// Bits in front of an IPv4 address in IPv6 clothing (RFC 4291 2.5.5.2).
const MAPPED: u8 = 96;
const EXAMPLE: &str = "write an address or a network, as in \"10.0.0.7\" or \"10.0.0.0/8\"";
const PROXIES: &str = "list the addresses of your own proxies only";
