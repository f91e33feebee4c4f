//! What names of ordered certificates are served with until the certificate itself is issued: the one that they had
//! before, which may be in the folder of another certificate since names were changed, or one that no client trusts.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::{CertTable, chain, generated, pair, state};
use crate::config::settings::CertificateSource;
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings};
use crate::config::toml::late_diagnostic::LateDiagnostic;

impl CertTable {
    /// Finds a certificate for each name of ordered certificates that has no valid one: in the `previous` table, and
    /// among those that are stored. To be called once all certificates are in the table, since those come first.
    /// `now` is in seconds since 1970.
    pub fn keep_until_issued(&mut self, acme: &AcmeSettings, previous: Option<&Self>, now: u64) {
        // Files are read only if they are needed.
        let mut stored = None;
        for position in 0..self.ordered.list.len() {
            let mut kept: Vec<Arc<CertifiedKey>> = Vec::new();
            let Some(of) = self.ordered.list.get(position) else { return };
            let (index, ordered, is_issued) =
                (of.index, of.certificate.clone(), of.issued.is_some());
            for name in &ordered.names {
                if self.is_served(name, now) {
                    continue;
                }
                let found = previous.and_then(|table| table.kept_for(name, now)).or_else(|| {
                    let stored = stored.get_or_insert_with(|| read_stored(&acme.folder(), now));
                    stored.iter().find(|key| is_for(key, name)).cloned()
                });
                if let Some(key) = found {
                    self.serve(name, key.clone());
                    kept.push(key);
                }
            }
            if !is_issued {
                self.keep_for(index, position, kept);
            }
        }
        // Last, since a wildcard that no client trusts must not come before a kept certificate.
        for of in self.ordered.list.clone() {
            if of.issued.is_none() && of.kept_until.is_none() {
                self.make_self_signed(of.index, &of.certificate);
            }
        }
        // Those that were added last are not in the order of their positions.
        self.keys.sort_by_key(|(index, _)| *index);
    }

    /// Keeps these certificates for an ordered one that has not been issued.
    fn keep_for(&mut self, index: usize, position: usize, kept: Vec<Arc<CertifiedKey>>) {
        let Some(of) = self.ordered.list.get_mut(position) else { return };
        let ordered = of.certificate.clone();
        let is_complete = ordered.names.iter().all(|name| kept.iter().any(|key| is_for(key, name)));
        let first_end =
            kept.iter().filter_map(|key| chain::validity(&key.cert)).map(|of| of.1).min();
        of.kept_until = first_end.filter(|_| is_complete);
        let is_default = self.is_default(index);
        if let Some(key) = kept.into_iter().next() {
            let state = state(index, ordered.requested_by.clone(), &key);
            self.states.extend(state.map(|mut state| {
                state.renews_itself = true;
                state
            }));
            if is_default {
                self.default = Some(key.clone());
            }
            self.ordered.kept.push(key);
        }
    }

    /// Makes a certificate that no client trusts, if the operator wants one.
    fn make_self_signed(&mut self, index: usize, ordered: &AcmeCertificate) {
        if !ordered.self_signed_until_issued {
            return;
        }
        let warning = |problem| LateDiagnostic { key: ordered.requested_by.clone(), problem };
        match generated::self_signed(&ordered.names).map(Arc::new) {
            Ok(made) => {
                self.ordered.made.push(made.clone());
                let is_default = self.is_default(index) && self.default.is_none();
                if let Err(of) = self.insert(index, made, is_default) {
                    self.warnings.push(warning(of.problem));
                }
            }
            Err(problem) => self.warnings.push(warning(problem)),
        }
    }

    /// Whether the certificate at this position is for clients that ask for no name.
    fn is_default(&self, index: usize) -> bool {
        self.sources.get(index).is_some_and(|source| source.default)
    }

    /// Whether a name has a certificate that is not to be replaced by a kept one: an issued one that has not expired,
    /// or one in files of the operator.
    fn is_served(&self, name: &str, now: u64) -> bool {
        let Some(key) = self.covering(name) else { return false };
        let issued = |key| {
            self.ordered
                .list
                .iter()
                .any(|of| of.issued.as_ref().is_some_and(|of| Arc::ptr_eq(of, key)))
        };
        !issued(key) || is_valid(key, now)
    }

    /// What a later table keeps for a name: nothing that was made here.
    fn kept_for(&self, name: &str, now: u64) -> Option<Arc<CertifiedKey>> {
        let key = self.covering(name)?;
        let is_made = self.ordered.made.iter().any(|made| Arc::ptr_eq(made, key));
        (!is_made && is_valid(key, now)).then(|| key.clone())
    }

    /// Serves a name with this certificate, whatever else is there.
    fn serve(&mut self, name: &str, key: Arc<CertifiedKey>) {
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.insert(parent.to_owned(), key),
            None => self.exact.insert(name.to_owned(), key),
        };
    }
}

/// Whether a certificate is for this name; a wildcard is written with its star.
fn is_for(key: &CertifiedKey, name: &str) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    chain::names(&key.cert).iter().any(|covered| {
        covered == name || covered.strip_prefix("*.").is_some_and(|of| Some(of) == parent)
    })
}

/// Whether a certificate has not expired. The clock may not have been set yet.
fn is_valid(key: &CertifiedKey, now: u64) -> bool {
    chain::validity(&key.cert).is_some_and(|(_, until)| now <= until)
}

/// All certificates in these folders that are valid; the one that ends last is the first.
fn read_stored(folder: &Path, now: u64) -> Vec<Arc<CertifiedKey>> {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten().take(FOLDERS_MAX);
    let read = folders.filter_map(|folder| {
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.path().join(name));
        // An installation that was interrupted is completed by the task that orders.
        let pair = pair::read(&CertificateSource::Files { chain, key }).ok()?;
        is_valid(&pair.key, now).then(|| Arc::new(pair.key))
    });
    let mut read: Vec<_> = read.collect();
    let end = |key: &Arc<CertifiedKey>| chain::validity(&key.cert).map(|(_, until)| until);
    read.sort_by_key(|key| std::cmp::Reverse(end(key)));
    read
}

/// How many stored certificates are looked at.
const FOLDERS_MAX: usize = 10_000;
