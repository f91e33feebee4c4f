//! The account at the authority (RFC 8555 7.3): its key is stored before it is registered, and used from then on.

use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use serde::de::IgnoredAny;
use serde_json::json;
use tracing::{info, warn};

use super::client::AcmeClient;
use super::failure::{AcmeFailure, FailureScope};
use super::jws::AccountKey;
use super::record::AccountRecord;
use super::storage;
use super::transport::AcmeTransport;
use crate::config::settings::acme::AcmeSettings;

/// The files of an account.
#[derive(Clone, Debug)]
pub struct AccountFiles(PathBuf);

impl AccountFiles {
    /// The files in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Reads the record. May block.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn record(&self) -> Result<AccountRecord, AcmeFailure> {
        storage::read_json(&self.0.join("account.json"))
    }

    /// Writes the record. May block.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, record: &AccountRecord) -> Result<(), AcmeFailure> {
        storage::write_json(&self.0.join("account.json"), record)
    }

    fn key_path(&self) -> PathBuf {
        self.0.join("account.key")
    }

    /// The key of the account, which is made if there is none: then the account is not registered. May block.
    fn key(&self) -> Result<AccountKey, AcmeFailure> {
        let path = self.key_path();
        let named =
            |problem: String| AcmeFailure::directory(format!("{}: {problem}", path.display()));
        match storage::read(&path)? {
            Some(pem) => AccountKey::from_pem(&String::from_utf8_lossy(&pem)).map_err(named),
            None => {
                let key = AccountKey::generate().map_err(named)?;
                // Before the key, so that no crash leaves the URL of the lost key's account with it.
                let record = self.record()?;
                if record.url.is_some() {
                    self.store(&AccountRecord { url: None, ..record })?;
                }
                storage::write(&path, key.pem().as_bytes())?;
                Ok(key)
            }
        }
    }
}

/// Connects to the directory with its account, which is registered if necessary.
///
/// # Errors
/// The files cannot be used, or the authority rejects the account.
pub async fn open(
    transport: AcmeTransport,
    settings: &AcmeSettings,
    files: &AccountFiles,
) -> Result<AcmeClient, AcmeFailure> {
    let key = files.key()?;
    let record = files.record()?;
    let is_known = record.directory == settings.directory;
    let account = record.url.clone().filter(|_| is_known);
    let mut client =
        AcmeClient::connect(transport, &settings.directory, key, account.clone()).await?;
    match account {
        None => register(&mut client, settings, files).await?,
        Some(url) if record.email != settings.email => {
            let contact = json!({ "contact": contact(settings) });
            match client.post::<IgnoredAny>(&url, Some(&contact)).await {
                Ok(_) => {
                    files.store(&AccountRecord { email: settings.email.clone(), ..record })?;
                }
                Err(failure) => {
                    if !renew(&mut client, settings, files, &failure).await? {
                        // The next order tries it again. This one does not need it.
                        warn!(error = %failure, "acme.email cannot be changed at the authority");
                    }
                }
            }
        }
        Some(_) => {}
    }
    Ok(client)
}

/// Registers the key of the client, or finds its account (RFC 8555 7.3.1).
///
/// # Errors
/// The authority rejects the account, or its files cannot be written.
async fn register(
    client: &mut AcmeClient,
    settings: &AcmeSettings,
    files: &AccountFiles,
) -> Result<(), AcmeFailure> {
    let url = client.directory.new_account.clone();
    let key = files.key()?;
    let mut payload = json!({ "termsOfServiceAgreed": true, "contact": contact(settings) });
    if let Some(external) = &settings.external_account {
        let mac_key = mac_key(&external.key_file)?;
        payload["externalAccountBinding"] = key.bind(&external.key_id, &mac_key, &url);
    }
    client.set_account(key, None);
    let registered = client.post::<IgnoredAny>(&url, Some(&payload)).await;
    // Nothing can be ordered without an account.
    let registered = registered.map_err(|failure| {
        let failure = AcmeFailure { scope: FailureScope::Directory, ..failure };
        failure.while_doing("cannot register the account")
    })?;
    let account = registered.location;
    let account =
        account.ok_or_else(|| AcmeFailure::directory(format!("{url}: no account URL")))?;
    info!(directory = settings.directory, account, "ACME account registered");
    let record = files.record()?;
    files.store(&AccountRecord {
        directory: settings.directory.clone(),
        url: Some(account.clone()),
        email: settings.email.clone(),
        ..record
    })?;
    client.set_account(files.key()?, Some(account));
    Ok(())
}

/// Registers a new account if a request failed because the authority no longer has the present one, or no longer
/// accepts it. Returns whether that was so.
///
/// # Errors
/// As [`register`].
pub async fn renew(
    client: &mut AcmeClient,
    settings: &AcmeSettings,
    files: &AccountFiles,
    failure: &AcmeFailure,
) -> Result<bool, AcmeFailure> {
    if failure.kind == NO_ACCOUNT {
        register(client, settings, files).await?;
    } else if failure.kind == UNAUTHORIZED && is_deactivated(client, files).await {
        replace(client, settings, files).await?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// Whether the authority no longer accepts the account, because it was deactivated (RFC 8555 7.3.6).
async fn is_deactivated(client: &mut AcmeClient, files: &AccountFiles) -> bool {
    let Ok(AccountRecord { url: Some(url), .. }) = files.record() else { return false };
    let read = client.post::<IgnoredAny>(&url, None).await;
    read.is_err_and(|failure| failure.kind == UNAUTHORIZED)
}

/// Registers a new account for a deactivated one, whose key cannot be used again.
///
/// # Errors
/// As [`register`].
async fn replace(
    client: &mut AcmeClient,
    settings: &AcmeSettings,
    files: &AccountFiles,
) -> Result<(), AcmeFailure> {
    warn!(
        directory = settings.directory,
        "the ACME account was deactivated; its key is kept as account.key.deactivated, and a new account registered"
    );
    storage::rename(&files.key_path(), "account.key.deactivated")?;
    register(client, settings, files).await
}

fn contact(settings: &AcmeSettings) -> Vec<String> {
    settings.email.iter().map(|email| format!("mailto:{email}")).collect()
}

/// The MAC key in a file, in base64url as authorities give it (RFC 8555 7.3.4). The error does not quote it.
fn mac_key(path: &Path) -> Result<Vec<u8>, AcmeFailure> {
    let unusable = |problem: &str| {
        let text = format!("acme.eab_key_file: {}: {problem}", path.display());
        AcmeFailure::directory(text)
    };
    let text = storage::read(path)?.ok_or_else(|| unusable("there is no such file"))?;
    let text = text.trim_ascii();
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    BASE64URL_NOPAD.decode(text).map_err(|_| unusable("not a key in base64url"))
}

/// The type of the problem of a deactivated account.
const UNAUTHORIZED: &str = "unauthorized";
/// The type of the problem of an account that the authority does not have.
const NO_ACCOUNT: &str = "accountDoesNotExist";
