//! The names of pools, and the values of TLS to backends.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::scalars::Label;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::scalar::text;
use crate::config::toml::value::TomlValue;

/// The name of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolName(pub(crate) Arc<str>);

impl TomlValue for PoolName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let Label(name) = Label::read(value)?;
        if &*name == OFF {
            let problem = Problem::new("pool = \"off\" in a [[route]] means that it uses no pool");
            return Err(problem.help("choose another name"));
        }
        Ok(Self(name))
    }
}

/// The pool of a route, or `"off"` (`None`) if the route lists its backends itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolChoice(pub(crate) Option<Arc<str>>);

impl TomlValue for PoolChoice {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.is_array() || value.is_table() {
            let problem = Problem::new("a route refers to a pool by its name");
            return Err(problem.help("write pool = \"chat\", or backends = [...] for a list"));
        }
        let Label(name) = Label::read(value)?;
        Ok(Self((&*name != OFF).then_some(name)))
    }
}

/// A file with trusted issuers, or `"system"` (`None`) for those of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustedIssuers(pub(crate) Option<PathBuf>);

impl TomlValue for TrustedIssuers {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        match value.as_str() {
            Some("system") => Ok(Self(None)),
            Some(_) => PathBuf::read(value).map(Some).map(Self),
            None => {
                let problem = PathBuf::read(value).err();
                let problem = problem.unwrap_or_else(|| Problem::new("this is not a path"));
                Err(problem.help("write \"system\", or the path of a PEM file: ca = \"ca.pem\""))
            }
        }
    }
}

/// An address of this machine from which connections come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceAddress(pub(crate) IpAddr);

impl TomlValue for SourceAddress {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "an IP address")?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<IpAddr>().map_err(|_| {
            let problem = Problem::new(format!("\"{text}\" is not an IP address"));
            problem.help("write an address of this machine, without a port: bind = [\"10.0.0.2\"]")
        })?;
        if address.is_unspecified() || address.is_multicast() {
            let problem = Problem::new(format!("connections cannot come from {address}"));
            return Err(problem.help("write an address of this machine, or remove bind"));
        }
        Ok(Self(address))
    }
}

/// The time between two lookups of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LookupInterval(pub(crate) Duration);

impl TomlValue for LookupInterval {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let interval = Duration::read(value)?;
        if interval < Duration::from_secs(1) {
            let problem = Problem::new("names would be looked up more than once a second");
            return Err(problem.help("the minimum is \"1s\"; \"off\" makes each name one backend"));
        }
        Ok(Self(interval))
    }
}

/// A name in a certificate: that of a host, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateName(pub(crate) Arc<str>);

impl TomlValue for CertificateName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let name = text(value, "the name in a certificate")?;
        match ServerName::try_from(name) {
            Ok(_) => Ok(Self(name.to_lowercase().into())),
            Err(_) => Err(Problem::new(format!("\"{name}\" cannot be the name in a certificate"))
                .help("write one host name or IP address, without a port and wildcards")),
        }
    }
}

/// A name for SNI, which cannot be an IP address (RFC 6066 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SniName(pub(crate) Arc<str>);

impl TomlValue for SniName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let CertificateName(name) = CertificateName::read(value)?;
        if matches!(ServerName::try_from(&*name), Ok(ServerName::IpAddress(_))) {
            let problem = Problem::new("an IP address is never sent as a server name");
            return Err(problem.help(format!("write verify_name = \"{name}\"")));
        }
        Ok(Self(name))
    }
}

const OFF: &str = "off";
