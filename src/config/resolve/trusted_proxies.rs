//! Trusted proxies.

use std::path::Path;

use ipnet::IpNet;

use super::defaults::value_or;
use crate::config::schema::ConfigFile;
use crate::config::settings::{ForwardedHeader, TrustedProxySettings};
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::sink::DiagnosticSink;
use crate::config::toml::value::Located;
use crate::config::values::network::covers_every_address;

/// The trusted proxies. They must not cover every address, and a header may be chosen only if there
/// are any. The files with addresses are read later.
pub(crate) fn trusted_proxies(
    file: &ConfigFile,
    dir: &Path,
    sink: &mut DiagnosticSink<'_>,
) -> TrustedProxySettings {
    let given = &file.trusted_proxies;
    let header = value_or(&given.header, ForwardedHeader::XForwardedFor);
    let mut networks: Vec<IpNet> = Vec::new();
    if let Some(Located { value: list, location }) = given.addresses.located() {
        networks.extend(list.iter().map(|network| network.value.0));
        // Several networks together may cover every address.
        let all = IpNet::aggregate(&networks).into_iter().find(|net| net.prefix_len() == 0);
        if let Some(all) = all {
            sink.report(location, covers_every_address("together these networks cover", all));
        }
    }
    // A key set explicitly to its default is always accepted.
    if let (Some(location), true, true) =
        (given.header.location(), header != ForwardedHeader::XForwardedFor, given.is_empty())
    {
        let problem = Problem::new("trusted_proxies.addresses is empty, so this header is ignored");
        sink.report(
            location,
            problem.help("list the proxies in front of tidegate: addresses = [\"10.0.0.7\"]"),
        );
    }
    let files = given.address_files.value().into_iter().flatten();
    let files = files.map(|file| dir.join(&file.value)).collect();
    TrustedProxySettings { networks: networks.into(), files, header }
}
