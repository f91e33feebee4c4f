//! Whose word about the client is taken.

use ipnet::IpNet;

use crate::config::resolve::value_or;
use crate::config::schema::ConfigFile;
use crate::config::settings::{ForwardedHeader, TrustedProxies};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::findings::DiagnosticSink;
use crate::config::toml::reader::Located;
use crate::config::values::network::everybody;

/// Never everybody; and a header is chosen only where somebody is there to write it.
pub(crate) fn trusted(file: &ConfigFile, findings: &mut DiagnosticSink<'_>) -> TrustedProxies {
    let given = &file.trusted_proxies;
    let header = value_or(&given.header, ForwardedHeader::XForwardedFor);
    let mut networks: Vec<IpNet> = Vec::new();
    if let Some(Located { value: list, place }) = given.addresses.here() {
        networks.extend(list.iter().map(|network| network.value.0));
        // Two halves are everybody, too.
        if IpNet::aggregate(&networks).iter().any(|net| net.prefix_len() == 0) {
            findings.fault(place, everybody("together these are every address there is"));
        }
    }
    // The default may be written anywhere.
    if let (Some(place), ForwardedHeader::Forwarded, true, false) =
        (given.header.place(), header, networks.is_empty(), given.addresses.is_faulty())
    {
        let wrong = Problem::new("no proxy is trusted, so this header is read from nobody");
        findings.fault(place, wrong.help("list the proxies in front: addresses = [\"10.0.0.7\"]"));
    }
    TrustedProxies { networks: networks.into(), header }
}
