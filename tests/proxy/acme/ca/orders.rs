//! Orders, authorizations, challenges and certificates (RFC 8555 7.4 and 7.5).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::api::Signed;
use super::issue;
use super::jws::decoded;
use super::problem::Problem;
use super::server::CaResponse;
use super::state::{CaAuthorization, CaOrder, CaState, Data, random_text};
use super::validation;

/// As Let's Encrypt.
const NAMES_MAX: usize = 100;

/// Creates an order with an authorization for each name.
pub fn new_order(signed: &Signed, state: &CaState) -> Result<CaResponse, Problem> {
    let account = signed.account()?;
    let wanted = signed.object()?;
    let mut data = state.data();
    let names = requested_names(wanted)?;
    let profile = wanted["profile"].as_str().map(str::to_owned);
    if profile.as_ref().is_some_and(|name| !data.settings.profiles.contains(&name.as_str())) {
        let detail = format!("profile {:?} not recognized", profile.unwrap_or_default());
        return Err(Problem::new(400, "invalidProfile", detail));
    }
    let replaces = wanted["replaces"].as_str().map(str::to_owned);
    if let Some(id) = &replaces {
        check_replaced(id, &names, &data)?;
    }
    let mut authorizations = Vec::new();
    for name in &names {
        authorizations.push(data.authorizations.len());
        let (name, is_wildcard) = match name.strip_prefix("*.") {
            Some(domain) => (domain.to_owned(), true),
            None => (name.clone(), false),
        };
        let token = random_text();
        let (chosen, result) = (None, None);
        data.authorizations.push(CaAuthorization {
            account,
            name,
            is_wildcard,
            token,
            chosen,
            result,
        });
    }
    let (certificate, is_processed) = (None, false);
    data.orders.push(CaOrder {
        account,
        names,
        profile,
        replaces,
        authorizations,
        certificate,
        is_processed,
    });
    Ok(order_response(201, data.orders.len() - 1, &data, state))
}

fn requested_names(wanted: &Value) -> Result<BTreeSet<String>, Problem> {
    let identifiers = wanted["identifiers"].as_array().cloned().unwrap_or_default();
    if identifiers.is_empty() || identifiers.len() > NAMES_MAX {
        return Err(Problem::malformed(format!("an order has 1 to {NAMES_MAX} identifiers")));
    }
    let name = |identifier: &Value| match (&identifier["type"], identifier["value"].as_str()) {
        (kind, Some(name)) if kind == "dns" => Ok(name.to_owned()),
        _ => Err(Problem::new(400, "unsupportedIdentifier", "only DNS names are accepted here")),
    };
    identifiers.iter().map(name).collect()
}

/// RFC 9773 5.
fn check_replaced(id: &str, names: &BTreeSet<String>, data: &Data) -> Result<(), Problem> {
    let found = data.issued.iter().find(|issued| issued.renewal_id == id);
    let found = found.ok_or_else(|| Problem::malformed("\"replaces\" names no certificate"))?;
    if found.names.is_disjoint(names) {
        return Err(Problem::malformed("\"replaces\" names a certificate for other names"));
    }
    let is_used = |order: &CaOrder| {
        order.replaces.as_deref() == Some(id) && data.order_status(order).0 != "invalid"
    };
    if data.orders.iter().any(is_used) {
        return Err(Problem::new(409, "alreadyReplaced", "the certificate was already replaced"));
    }
    Ok(())
}

/// Shows an order.
pub fn order(signed: &Signed, number: usize, state: &CaState) -> Result<CaResponse, Problem> {
    let mut data = state.data();
    let order = data.orders.get_mut(number).filter(|order| Some(order.account) == signed.account);
    let order = order.ok_or_else(|| Problem::new(404, "malformed", "no such order"))?;
    order.is_processed = order.certificate.is_some();
    Ok(order_response(200, number, &data, state))
}

fn order_response(status: u16, number: usize, data: &Data, state: &CaState) -> CaResponse {
    let order = &data.orders[number];
    let identifier = |name: &String| json!({ "type": "dns", "value": name });
    let authorization = |number: &usize| state.url(format!("/authorization/{number}"));
    let (state_name, error) = data.order_status(order);
    let mut body = json!({
        "status": state_name,
        "identifiers": order.names.iter().map(identifier).collect::<Vec<_>>(),
        "authorizations": order.authorizations.iter().map(authorization).collect::<Vec<_>>(),
        "finalize": state.url(format!("/finalize/{number}")),
    });
    if let Some(profile) = &order.profile {
        body["profile"] = json!(profile);
    }
    if let Some(error) = error {
        body["error"] = error;
    }
    if let ("valid", Some(certificate)) = (state_name, order.certificate) {
        body["certificate"] = json!(state.url(format!("/certificate/{certificate}")));
    }
    CaResponse::json(status, &body).header("Location", state.url(format!("/order/{number}")))
}

/// Shows an authorization with its challenges.
pub fn authorization(
    signed: &Signed,
    number: usize,
    state: &CaState,
) -> Result<CaResponse, Problem> {
    let data = state.data();
    let found = data.authorizations.get(number);
    let found = found.filter(|found| Some(found.account) == signed.account);
    let found = found.ok_or_else(|| Problem::new(404, "malformed", "no such authorization"))?;
    let challenge = |kind: &&str| found.challenge(kind, &challenge_url(state, number, kind));
    let challenges: Vec<_> = offered(found, &data).iter().map(challenge).collect();
    let mut body = json!({
        "status": found.status(),
        "identifier": { "type": "dns", "value": found.name },
        "challenges": challenges,
    });
    if found.is_wildcard {
        body["wildcard"] = json!(true);
    }
    Ok(CaResponse::json(200, &body))
}

/// The kinds of challenges for an authorization; wildcards are validated by DNS only.
fn offered(authorization: &CaAuthorization, data: &Data) -> Vec<&'static str> {
    let kinds = data.settings.challenges.iter().copied();
    kinds.filter(|kind| !authorization.is_wildcard || *kind == "dns-01").collect()
}

fn challenge_url(state: &CaState, number: usize, kind: &str) -> String {
    state.url(format!("/challenge/{number}/{kind}"))
}

/// Starts the validation that the client asks for.
pub fn challenge(signed: &Signed, path: &str, state: &Arc<CaState>) -> Result<CaResponse, Problem> {
    let missing = || Problem::new(404, "malformed", "no such challenge");
    let mut parts = path.split('/').skip(2);
    let number: usize = parts.next().and_then(|part| part.parse().ok()).ok_or_else(missing)?;
    let kind = parts.next().ok_or_else(missing)?;
    let mut data = state.data();
    let authorization = data.authorizations.get(number).ok_or_else(missing)?;
    let kind = offered(authorization, &data).into_iter().find(|found| *found == kind);
    let kind =
        kind.filter(|_| Some(authorization.account) == signed.account).ok_or_else(missing)?;
    let thumbprint = data.accounts[authorization.account].key.thumbprint();
    let authorization = &mut data.authorizations[number];
    if signed.payload.is_some() && authorization.chosen.is_none() {
        authorization.chosen = Some(kind);
        let key_authorization = format!("{}.{thumbprint}", authorization.token);
        let validation = validation::Validation {
            authorization: number,
            kind,
            name: authorization.name.clone(),
            token: authorization.token.clone(),
            key_authorization,
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the runtime of the test")]
        tokio::spawn(validation.run(state.clone()));
    }
    let body = authorization.challenge(kind, &challenge_url(state, number, kind));
    let up = format!("<{}>;rel=\"up\"", state.url(format!("/authorization/{number}")));
    Ok(CaResponse::json(200, &body).header("Link", up))
}

/// Issues the certificate of an order.
pub fn finalize(signed: &Signed, number: usize, state: &CaState) -> Result<CaResponse, Problem> {
    let mut data = state.data();
    let order = data.orders.get(number).filter(|order| Some(order.account) == signed.account);
    let order = order.ok_or_else(|| Problem::new(404, "malformed", "no such order"))?;
    if data.order_status(order).0 != "ready" {
        let detail = format!("Order's status ({:?}) is not acceptable", data.order_status(order).0);
        return Err(Problem::new(403, "orderNotReady", detail));
    }
    let request = decoded(signed.object()?["csr"].as_str().unwrap_or_default())?;
    let names = order.names.clone();
    let account_key = data.accounts[order.account].key.point()?;
    let wrong =
        (!data.settings.wrong_chains.is_empty()).then(|| data.settings.wrong_chains.remove(0));
    let wanted = issue::Wanted {
        names,
        account_key,
        lifetime: data.settings.lifetime,
        age: data.settings.age,
        wrong,
    };
    let issued = state.signer.issue(&request, wanted, number)?;
    let certificate = data.issued.len();
    data.issued.push(issued);
    let is_slow = data.settings.is_slow;
    let order = &mut data.orders[number];
    (order.certificate, order.is_processed) = (Some(certificate), !is_slow);
    Ok(order_response(200, number, &data, state))
}

/// The chain of an issued certificate.
pub fn certificate(signed: &Signed, number: usize, state: &CaState) -> Result<CaResponse, Problem> {
    let data = state.data();
    let issued = data.issued.get(number);
    let issued = issued.filter(|issued| Some(data.orders[issued.order].account) == signed.account);
    let issued = issued.ok_or_else(|| Problem::new(404, "malformed", "no such certificate"))?;
    let media_type = "application/pem-certificate-chain";
    Ok(CaResponse::with_type(200, media_type, issued.chain.clone()))
}
