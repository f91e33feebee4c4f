//! The table `[acme]`.

use std::path::PathBuf;

use crate::config::settings::acme::{ChallengeKind, UntilIssued};
use crate::config::toml::diagnostic::Location;
use crate::config::toml::reader::TableReader;
use crate::config::toml::value::Parsed;
use crate::config::values::acme::{AccountEmail, DirectoryUrl};
use crate::config::values::pool::TrustedIssuers;
use crate::config::values::scalars::{Label, OrOff};
use crate::config::values::targets::OptionalFile;

/// The table `[acme]`.
pub(crate) struct AcmeTable {
    /// The header of the table.
    pub(crate) location: Location,
    /// Whether the file has the table.
    pub(crate) is_present: bool,
    pub(crate) accept_terms: Parsed<bool>,
    pub(crate) email: Parsed<OrOff<AccountEmail>>,
    pub(crate) directory: Parsed<DirectoryUrl>,
    pub(crate) ca: Parsed<TrustedIssuers>,
    pub(crate) profile: Parsed<OrOff<Label>>,
    pub(crate) eab_key_id: Parsed<OrOff<Label>>,
    pub(crate) eab_key_file: Parsed<OptionalFile>,
    pub(crate) state_directory: Parsed<PathBuf>,
    pub(crate) until_issued: Parsed<UntilIssued>,
    pub(crate) challenge: Parsed<ChallengeKind>,
    pub(crate) dns_hook: Parsed<OptionalFile>,
}

pub(crate) fn acme(table: &mut TableReader<'_, '_, '_>) -> AcmeTable {
    AcmeTable {
        location: table.location().clone(),
        is_present: table.is_present(),
        accept_terms: table.get("accept_terms"),
        email: table.get("email"),
        directory: table.get("directory"),
        ca: table.get("ca"),
        profile: table.get("profile"),
        eab_key_id: table.get("eab_key_id"),
        eab_key_file: table.get("eab_key_file"),
        state_directory: table.get("state_directory"),
        until_issued: table.get("until_issued"),
        challenge: table.get("challenge"),
        dns_hook: table.get("dns_hook"),
    }
}
