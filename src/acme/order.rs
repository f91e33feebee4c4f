//! One order (RFC 8555 7.4), from its request to the issued chain. Each step is stored before the next one, so that
//! an order is continued after a restart.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::account::{self, AccountFiles};
use super::client::AcmeClient;
use super::failure::{AcmeFailure, FailureScope};
use super::jws::answer_digest;
use super::protocol::{AcmeOrder, AcmeProblem, AcmeStatus, Authorization};
use super::record::{CertRecord, DnsRecord, OpenOrder};
use super::{cert_files, dns_records, storage};
use crate::config::settings::acme::{AcmeCertificate, AcmeSettings, ChallengeKind};
use crate::sys::clock::wall;
use crate::tls::certs::generated;
use crate::tls::certs::issued::{check_issued, validity_of};
use crate::tls::challenges::ChallengeAnswers;

/// What an order needs besides the account.
pub struct OrderContext<'a> {
    pub settings: &'a AcmeSettings,
    pub certificate: &'a AcmeCertificate,
    pub account: &'a AccountFiles,
    pub answers: &'a Arc<ChallengeAnswers>,
    /// The identifier of the certificate that is replaced (RFC 9773 5).
    pub replaces: Option<String>,
}

/// Orders the certificate and checks it. Returns the chain and its validity; its key is in the file of the new key.
///
/// # Errors
/// Why there is none. An order that can be continued remains in the record.
pub async fn obtain(
    context: &OrderContext<'_>,
    client: &mut AcmeClient,
    record: &mut CertRecord,
) -> Result<(String, (u64, u64)), AcmeFailure> {
    let deadline = Instant::now() + ORDER_TIMEOUT;
    let late = || {
        let minutes = ORDER_TIMEOUT.as_secs() / 60;
        AcmeFailure::directory(format!("the order was not completed within {minutes} minutes"))
    };
    let hook = context.settings.dns_hook.as_deref();
    dns_records::clean_left(hook, record).await;
    let mut steps = OrderSteps { context, client, answered: Vec::new() };
    let ordered = timeout_at(deadline, steps.run(record)).await.unwrap_or_else(|_| Err(late()));
    steps.answered.clear();
    dns_records::clean(hook, record).await;
    ordered
}

struct OrderSteps<'a, 'c> {
    context: &'a OrderContext<'a>,
    client: &'c mut AcmeClient,
    /// The answers that are to be removed.
    answered: Vec<Answered>,
}

/// An answer to a challenge by a listener; removed when it is dropped.
struct Answered(Arc<ChallengeAnswers>, String);

impl OrderSteps<'_, '_> {
    async fn run(&mut self, record: &mut CertRecord) -> Result<(String, (u64, u64)), AcmeFailure> {
        let (url, mut order) = match self.continued(record).await? {
            Some(order) => order,
            None => self.new_order(record).await?,
        };
        if order.status == AcmeStatus::Pending {
            if let Err(failure) = self.validate(&order, record).await {
                self.forget_if_invalid(&url, record).await;
                return Err(failure);
            }
            order = self.wait(&url, AcmeStatus::Pending).await?;
        }
        if order.status == AcmeStatus::Ready {
            let request = json!({ "csr": self.signing_request()? });
            self.client.post::<IgnoredAny>(&order.finalize, Some(&request)).await?;
            order = self.wait(&url, AcmeStatus::Ready).await?;
        }
        if order.status == AcmeStatus::Processing {
            order = self.wait(&url, AcmeStatus::Processing).await?;
        }
        let Some(certificate) = order.certificate.filter(|_| order.status == AcmeStatus::Valid)
        else {
            self.forget(record)?;
            let said =
                order.error.as_ref().map_or("it does not say why".to_owned(), AcmeProblem::text);
            return Err(AcmeFailure::certificate(format!(
                "the authority has ended the order: {said}"
            )));
        };
        let chain = self.client.read_text(&certificate).await?;
        let validity = self.check(&chain, record)?;
        Ok((chain, validity))
    }

    /// The order that an earlier attempt has left, if it can be continued.
    async fn continued(
        &mut self,
        record: &mut CertRecord,
    ) -> Result<Option<(String, AcmeOrder)>, AcmeFailure> {
        let certificate = self.context.certificate;
        let Some(open) = record.order.clone() else { return Ok(None) };
        let is_same = open.names == certificate.names
            && open.directory == self.context.settings.directory
            && storage::new_key(&certificate.folder).exists();
        if is_same {
            match self.client.post::<AcmeOrder>(&open.url, None).await {
                Ok(found) if found.document.status != AcmeStatus::Invalid => {
                    return Ok(Some((open.url, found.document)));
                }
                // The authority has forgotten it.
                Ok(_) => {}
                Err(failure) if !failure.kind.is_empty() && failure.retry_after.is_none() => {}
                Err(failure) => return Err(failure),
            }
        }
        self.forget(record)?;
        Ok(None)
    }

    /// Makes a key and an order for it.
    async fn new_order(
        &mut self,
        record: &mut CertRecord,
    ) -> Result<(String, AcmeOrder), AcmeFailure> {
        let OrderContext { settings, certificate, .. } = self.context;
        let key = KeyPair::generate();
        let key = key.map_err(|error| AcmeFailure::certificate(error.to_string()))?;
        // Before the order, so that none is made if the disk is full.
        storage::write(&storage::new_key(&certificate.folder), key.serialize_pem().as_bytes())?;
        let names = certificate.names.iter();
        let names: Vec<Value> = names.map(|name| json!({ "type": "dns", "value": name })).collect();
        let mut payload = json!({ "identifiers": names });
        if let Some(profile) = &settings.profile {
            payload["profile"] = profile.as_str().into();
        }
        if let Some(replaces) = &self.context.replaces
            && self.client.directory.renewal_info.is_some()
        {
            payload["replaces"] = replaces.as_str().into();
        }
        let mut received = self.request(&payload).await;
        // RFC 9773 5: another order has replaced it, or the authority does not know it.
        let is_rejected = |failure: &AcmeFailure| {
            failure.scope == FailureScope::Certificate && !failure.kind.is_empty()
        };
        if received.as_ref().is_err_and(is_rejected) && payload.get("replaces").is_some() {
            if let Some(payload) = payload.as_object_mut() {
                payload.remove("replaces");
            }
            received = self.request(&payload).await;
        }
        let (url, order) = received?;
        record.order = Some(OpenOrder {
            url: url.clone(),
            names: certificate.names.clone(),
            directory: settings.directory.clone(),
        });
        cert_files::store(certificate, record)?;
        Ok((url, order))
    }

    /// Sends a new order, after a new account if the authority no longer has the present one.
    async fn request(&mut self, payload: &Value) -> Result<(String, AcmeOrder), AcmeFailure> {
        let OrderContext { settings, account, .. } = self.context;
        let url = self.client.directory.new_order.clone();
        let mut received = self.client.post::<AcmeOrder>(&url, Some(payload)).await;
        if let Err(failure) = &received
            && account::renew(self.client, settings, account, failure).await?
        {
            received = self.client.post::<AcmeOrder>(&url, Some(payload)).await;
        }
        let received = received?;
        let location = received.location;
        let location =
            location.ok_or_else(|| AcmeFailure::directory(format!("{url}: no order URL")))?;
        Ok((location, received.document))
    }

    /// Proves control of all names of the order.
    async fn validate(
        &mut self,
        order: &AcmeOrder,
        record: &mut CertRecord,
    ) -> Result<(), AcmeFailure> {
        let kind = self.context.settings.challenge;
        let names = &self.context.certificate.names;
        if order.authorizations.len() > names.len() {
            let text = "the authority wants more authorizations than names were ordered";
            return Err(AcmeFailure::certificate(text));
        }
        let mut waiting = Vec::new();
        for url in &order.authorizations {
            let found = self.client.post::<Authorization>(url, None).await?.document;
            if found.status == AcmeStatus::Valid {
                continue;
            }
            let name = found.name_of(names).map_err(AcmeFailure::certificate)?.to_owned();
            let challenge = found.challenge(kind.as_str());
            let challenge = challenge
                .map_err(|problem| AcmeFailure::certificate(format!("{name}: {problem}")))?;
            self.answer(kind, &name, &challenge.token, record).await?;
            waiting.push((url, challenge.url.clone(), challenge.status));
        }
        for (_, challenge, _) in waiting.iter().filter(|of| of.2 == AcmeStatus::Pending) {
            self.client.post::<IgnoredAny>(challenge, Some(&json!({}))).await?;
        }
        for (url, _, _) in waiting {
            self.wait_for_authorization(url).await?;
        }
        Ok(())
    }

    async fn wait_for_authorization(&mut self, url: &str) -> Result<(), AcmeFailure> {
        let mut delays = PollDelays::default();
        loop {
            let received = self.client.post::<Authorization>(url, None).await?;
            let found = received.document;
            match found.status {
                AcmeStatus::Valid => return Ok(()),
                AcmeStatus::Pending | AcmeStatus::Processing | AcmeStatus::Ready => {
                    delays.wait(received.retry_after).await;
                }
                AcmeStatus::Invalid => {
                    let said = found.challenges.iter().find_map(|of| of.error.as_ref());
                    let said = said.map_or("it does not say why".to_owned(), AcmeProblem::text);
                    return Err(AcmeFailure::certificate(format!(
                        "{}: the authority says: {said}",
                        found.identifier.value
                    )));
                }
            }
        }
    }

    /// Answers a challenge.
    async fn answer(
        &mut self,
        kind: ChallengeKind,
        name: &str,
        token: &str,
        record: &mut CertRecord,
    ) -> Result<(), AcmeFailure> {
        let OrderContext { settings, certificate, answers, .. } = self.context;
        let answer = self.client.key().authorization(token);
        match kind {
            ChallengeKind::TlsAlpn01 => {
                let made = generated::validation(name, &answer_digest(&answer));
                answers.insert_tls(name, made.map_err(AcmeFailure::certificate)?);
                self.answered.push(Answered(Arc::clone(answers), name.to_owned()));
            }
            ChallengeKind::Http01 => {
                answers.insert_http(token, answer);
                self.answered.push(Answered(Arc::clone(answers), token.to_owned()));
            }
            ChallengeKind::Dns01 => {
                let Some(hook) = &settings.dns_hook else { return Ok(()) };
                let name = format!("_acme-challenge.{name}");
                let value = BASE64URL_NOPAD.encode(&answer_digest(&answer));
                dns_records::set(hook, certificate, record, DnsRecord { name, value }).await?;
            }
        }
        Ok(())
    }

    /// Waits until the order leaves this status, or is processed.
    async fn wait(&mut self, url: &str, status: AcmeStatus) -> Result<AcmeOrder, AcmeFailure> {
        let mut delays = PollDelays::default();
        loop {
            let received = self.client.post::<AcmeOrder>(url, None).await?;
            let order = received.document;
            if order.status != status && order.status != AcmeStatus::Processing {
                return Ok(order);
            }
            delays.wait(received.retry_after).await;
        }
    }

    /// The request for a certificate with the stored key (RFC 8555 7.4), in base64url.
    fn signing_request(&self) -> Result<String, AcmeFailure> {
        let AcmeCertificate { names, folder, .. } = self.context.certificate;
        let pem = storage::read(&storage::new_key(folder))?.unwrap_or_default();
        let made = || {
            let key = KeyPair::from_pem(&String::from_utf8_lossy(&pem))?;
            let mut params = CertificateParams::new(names.clone())?;
            params.distinguished_name = DistinguishedName::new();
            params.serialize_request(&key)
        };
        let made = made().map_err(|error| {
            AcmeFailure::certificate(format!("cannot make the signing request: {error}"))
        })?;
        Ok(BASE64URL_NOPAD.encode(made.der()))
    }

    /// The validity of the issued chain.
    fn check(&self, chain: &str, record: &mut CertRecord) -> Result<(u64, u64), AcmeFailure> {
        let certificate = self.context.certificate;
        let key = storage::read(&storage::new_key(&certificate.folder))?.unwrap_or_default();
        let key = String::from_utf8_lossy(&key).into_owned();
        let checked = check_issued(chain.to_owned(), key, &certificate.names, wall() as u64);
        checked.map(|key| validity_of(&key)).or_else(|problem| {
            // It would be the same again.
            self.forget(record)?;
            let text = format!("the issued certificate cannot be used: {problem}");
            Err(AcmeFailure::certificate(text))
        })
    }

    /// The order is not continued if it cannot become valid any more.
    async fn forget_if_invalid(&mut self, url: &str, record: &mut CertRecord) {
        let found = self.client.post::<AcmeOrder>(url, None).await;
        if found.is_ok_and(|found| found.document.status == AcmeStatus::Invalid) {
            // The record is stored again with the failure.
            record.order = None;
        }
    }

    fn forget(&self, record: &mut CertRecord) -> Result<(), AcmeFailure> {
        record.order = None;
        cert_files::store(self.context.certificate, record)
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.remove(&self.1);
    }
}

/// Growing delays between two looks at the same resource, unless the authority says how long to wait.
struct PollDelays(Duration);

impl Default for PollDelays {
    fn default() -> Self {
        Self(POLL_MIN)
    }
}

impl PollDelays {
    async fn wait(&mut self, retry_after: Option<Duration>) {
        let delay = retry_after.map_or(self.0, |delay| delay.clamp(POLL_MIN, RETRY_AFTER_MAX));
        self.0 = (self.0 * 3 / 2).min(POLL_MAX);
        sleep_until(Instant::now() + delay).await;
    }
}

/// From the account to the chain; a hook for DNS may take minutes for each name.
const ORDER_TIMEOUT: Duration = Duration::from_secs(900);
const POLL_MIN: Duration = Duration::from_millis(250);
const POLL_MAX: Duration = Duration::from_secs(10);
/// The longest wait that an authority can ask for within an order.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
