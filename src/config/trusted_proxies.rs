//! The addresses of the trusted proxies: those in the configuration, and those in the files that it names.
//! Providers publish such files; they are read when a snapshot is built, and again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use super::address_rules::FirstNetworks;
use super::settings::{ForwardedHeader, TrustedProxySettings};
use super::toml::diagnostic::Problem;
use super::toml::late_diagnostic::LateDiagnostic;
use super::toml::source;
use super::values::network::{Network, covers_every_address};
use crate::client::ClientAddr;
use crate::sys::file_identity::FileIdentity;

/// The proxies that may state the client's address.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    /// Sorted by address; none contains or touches another one of the same size.
    networks: Arc<[IpNet]>,
    /// The header that carries the client's address.
    pub header: ForwardedHeader,
    /// The files, in the order of the settings.
    pub files: Arc<[AddressFile]>,
}

/// A file of addresses, as it was read.
#[derive(Clone, Debug)]
pub struct AddressFile {
    /// Its path.
    pub path: PathBuf,
    /// Number of networks in it.
    pub networks: usize,
    identity: Option<FileIdentity>,
}

impl TrustedProxies {
    /// Reads the files. May block.
    ///
    /// # Errors
    /// One diagnostic per file that cannot be used, with the line at fault; all of them together.
    pub fn load(settings: &TrustedProxySettings) -> Result<Self, Vec<LateDiagnostic>> {
        let mut networks = settings.networks.to_vec();
        let (mut files, mut errors) = (Vec::new(), Vec::new());
        for (index, path) in settings.files.iter().enumerate() {
            // Taken first, so that a change during the reading is detected afterwards.
            let identity = FileIdentity::of(path);
            match read(path) {
                Ok(found) => {
                    let networks_found = found.len();
                    networks.extend(found);
                    files.push(AddressFile {
                        path: path.clone(),
                        networks: networks_found,
                        identity,
                    });
                }
                Err(problem) => errors.push(LateDiagnostic {
                    key: format!("{KEY}[{index}]"),
                    problem: format!("{}: {problem}", path.display()),
                }),
            }
        }
        let mut networks = IpNet::aggregate(&networks);
        networks.sort_unstable();
        if let Some(all) = networks.iter().find(|network| network.prefix_len() == 0) {
            let subject = "together with trusted_proxies.addresses, these files cover";
            let problem = covers_every_address(subject, *all).to_string();
            errors.push(LateDiagnostic { key: KEY.to_owned(), problem });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { networks: networks.into(), header: settings.header, files: files.into() })
    }

    /// Whether the peer at this address is a trusted proxy.
    pub fn contains(&self, addr: &ClientAddr) -> bool {
        let ip = addr.ip();
        // Networks do not overlap, so only the last one that starts at or before the address can contain it.
        let following = self.networks.partition_point(|network| network.addr() <= ip);
        let candidate = following.checked_sub(1).and_then(|index| self.networks.get(index));
        candidate.is_some_and(|network| network.contains(&ip))
    }

    /// Number of networks, after those that overlap or touch have been joined.
    pub fn count(&self) -> usize {
        self.networks.len()
    }

    /// The identities of the files at the time when they were read.
    pub fn file_identities(&self) -> Vec<Option<FileIdentity>> {
        self.files.iter().map(|file| file.identity).collect()
    }
}

/// Lists the first networks.
impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FirstNetworks(&self.networks).fmt(f)
    }
}

fn read(path: &Path) -> Result<Vec<IpNet>, Problem> {
    let bytes = source::read(path, FILE_BYTES_MAX)?;
    if bytes.len() > FILE_BYTES_MAX {
        let max = FILE_BYTES_MAX >> 10;
        return Err(Problem::new(format!("larger than {max} KiB, not a list of proxies")));
    }
    let text = source::decode(&bytes).map_err(|problem| Problem::new(problem.message()))?;
    let mut networks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let network = Network::parse(entry)
            .map_err(|problem| Problem::new(format!("line {}: {problem}", index + 1)))?;
        networks.push(network.0);
    }
    if networks.is_empty() {
        let problem = Problem::new("the file contains no address");
        return Err(problem.help("write one address or network per line; # starts a comment"));
    }
    Ok(networks)
}

const KEY: &str = "trusted_proxies.address_files";
/// The longest published lists have about a thousand lines.
const FILE_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Loads the settings with files of these contents, and with `10.0.0.0/9` in the configuration.
    fn load(name: &str, contents: &[&[u8]]) -> Result<TrustedProxies, Vec<String>> {
        let dir =
            std::env::temp_dir().join(format!("tidegate-addresses-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let paths: Vec<PathBuf> =
            (0..contents.len()).map(|index| dir.join(format!("{index}.txt"))).collect();
        for (path, content) in paths.iter().zip(contents) {
            fs::write(path, content).unwrap();
        }
        let loaded = TrustedProxies::load(&TrustedProxySettings {
            networks: ["10.0.0.0/9".parse().unwrap()].into(),
            files: paths.into(),
            header: ForwardedHeader::XForwardedFor,
        });
        fs::remove_dir_all(&dir).unwrap();
        let shown = |error: LateDiagnostic| {
            let problem = error.problem.replace(&format!("{}/", dir.display()), "");
            format!("{}: {problem}", error.key)
        };
        loaded.map_err(|errors| errors.into_iter().map(shown).collect())
    }

    fn contains(proxies: &TrustedProxies, ip: &str) -> bool {
        proxies.contains(&ClientAddr::without_port(ip.parse().unwrap()))
    }

    #[test]
    fn files_add_networks_to_those_of_the_configuration() {
        let v4 =
            "# published 2026-01-01\r\n\r\n173.245.48.0/20 # edge\r\n 10.128.0.0/9\r\n198.51.100.7";
        let proxies = load("valid", &[v4.as_bytes(), b"\xef\xbb\xbf2400:cb00::/32\n"]).unwrap();
        assert_eq!(
            proxies.to_string(),
            "10.0.0.0/8, 173.245.48.0/20, 198.51.100.7, 2400:cb00::/32"
        );
        assert_eq!(proxies.count(), 4);
        let counts: Vec<usize> = proxies.files.iter().map(|file| file.networks).collect();
        assert_eq!(counts, [3, 1]);
        for ip in ["10.0.0.0", "10.255.255.255", "173.245.63.255", "198.51.100.7", "2400:cb00::1"] {
            assert!(contains(&proxies, ip), "{ip}");
        }
        for ip in
            ["9.255.255.255", "11.0.0.0", "173.245.64.0", "198.51.100.8", "::1", "2400:cb01::"]
        {
            assert!(!contains(&proxies, ip), "{ip}");
        }
    }

    #[test]
    fn unusable_file_is_named_with_its_line() {
        let large = "10.0.0.1\n".repeat(FILE_BYTES_MAX / 9 + 1);
        for (content, problem) in [
            (&b"# a\n\n<html>\n"[..], "line 3: \"<html>\" is not an IP address (write an address"),
            (b"10.0.0.1/8", "line 1: \"10.0.0.1/8\" has bits set after the first 8 (write"),
            (b"0.0.0.0/0", "line 1: 0.0.0.0/0 covers every IPv4 address"),
            (b"", "the file contains no address (write one address or network per line"),
            (b"# nothing\n", "the file contains no address"),
            (b"\xff\xfe", "the file is not valid UTF-8"),
            (large.as_bytes(), "larger than 256 KiB"),
        ] {
            let errors = load("invalid", &[content, b"10.0.0.1"]).unwrap_err();
            let start = format!("{KEY}[0]: 0.txt: {problem}");
            assert!(errors.len() == 1 && errors[0].starts_with(&start), "{errors:?}");
        }
    }

    #[test]
    fn rejects_files_that_cover_every_address() {
        let errors = load("all", &[b"128.0.0.0/1\n0.0.0.0/2", b"64.0.0.0/2"]).unwrap_err();
        assert!(errors[0].starts_with(&format!("{KEY}: together with ")), "{errors:?}");
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn no_proxy_is_trusted_without_addresses() {
        let none = TrustedProxySettings {
            networks: [].into(),
            files: [].into(),
            header: ForwardedHeader::XForwardedFor,
        };
        let proxies = TrustedProxies::load(&none).unwrap();
        assert!(!contains(&proxies, "127.0.0.1") && !contains(&proxies, "::1"));
    }
}
