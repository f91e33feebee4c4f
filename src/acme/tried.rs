//! What an attempt tries: after a failure, its delay holds only for this.

use std::path::Path;

use crate::config::settings::acme::{AcmeCertificate, AcmeSettings};
use crate::sys::file_identity::FileIdentity;

/// What decides whether an order can succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// For the account: the directory, and what it is registered with.
    pub account: String,
    /// For a certificate, without its names.
    order: String,
}

impl Tried {
    /// What these settings try. May block: a hook that was changed is another one.
    pub fn new(settings: &AcmeSettings) -> Self {
        let AcmeSettings { directory, email, ca, external_account, .. } = settings;
        let mut account = directory.clone();
        for (key, value) in
            [("email", email.as_deref()), ("eab", external_account.as_ref().map(|of| &*of.key_id))]
        {
            account.extend(value.map(|value| format!(" {key} {value}")));
        }
        account += &file("ca", ca.as_deref());
        account += &file("eab", external_account.as_ref().map(|of| &*of.key_file));
        let mut order = format!("{directory} {}", settings.challenge.as_str());
        order.extend(settings.profile.as_ref().map(|profile| format!(" profile {profile}")));
        order += &file("hook", settings.dns_hook.as_deref());
        Self { account, order }
    }

    /// For a certificate.
    pub fn order(&self, certificate: &AcmeCertificate) -> String {
        format!("{} for {}", self.order, certificate.names.join(" "))
    }
}

/// A file and its version.
fn file(key: &str, path: Option<&Path>) -> String {
    let Some(path) = path else { return String::new() };
    let version = FileIdentity::of(path).map_or("missing".to_owned(), |found| found.version());
    format!(" {key} {} {version}", path.display())
}
