//! The resources of the CA: directory, nonces and accounts (RFC 8555 7.1 to 7.3).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::jws::{AccountKey, Jws};
use super::orders;
use super::problem::Problem;
use super::script::Step;
use super::server::{CaRequest, CaResponse};
use super::state::{CaAccount, CaState, Data, now};

/// A request whose signature, URL and nonce are right.
pub struct Signed {
    /// `None` in POST-as-GET.
    pub payload: Option<Value>,
    pub key: AccountKey,
    /// The account that `kid` names.
    pub account: Option<usize>,
}

impl Signed {
    /// The account of a request that needs one.
    pub fn account(&self) -> Result<usize, Problem> {
        self.account.ok_or_else(|| Problem::malformed("this request must have a kid, not a jwk"))
    }

    /// The payload of a request that needs one.
    pub fn object(&self) -> Result<&Value, Problem> {
        self.payload.as_ref().ok_or_else(|| Problem::malformed("this request must have a payload"))
    }
}

/// The step that a request belongs to.
pub fn step(request: &CaRequest) -> Option<Step> {
    let (path, _query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let path: Vec<&str> = path.split('/').skip(1).collect();
    let (step, methods): (Step, &[&str]) = match path[..] {
        ["directory"] => (Step::Directory, &["GET"]),
        ["nonce"] => (Step::NewNonce, &["GET", "HEAD"]),
        ["account"] => (Step::NewAccount, &["POST"]),
        ["account", _] => (Step::Account, &["POST"]),
        ["order"] => (Step::NewOrder, &["POST"]),
        ["order", _] => (Step::Order, &["POST"]),
        ["authorization", _] => (Step::Authorization, &["POST"]),
        ["challenge", _, _] => (Step::Challenge, &["POST"]),
        ["finalize", _] => (Step::Finalize, &["POST"]),
        ["certificate", _] => (Step::Certificate, &["POST"]),
        ["renewal", _] => (Step::RenewalInfo, &["GET"]),
        _ => return None,
    };
    methods.contains(&request.method.as_str()).then_some(step)
}

/// Answers a request.
///
/// # Errors
///
/// What is wrong with the request.
pub fn respond(
    step: Step,
    request: &CaRequest,
    state: &Arc<CaState>,
) -> Result<CaResponse, Problem> {
    let signed = || signed(request, state);
    match step {
        Step::Directory => Ok(directory(state)),
        Step::NewNonce => Ok(CaResponse::with_type(200, "text/plain", "")),
        Step::RenewalInfo => renewal_info(last_part(&request.path), state),
        Step::NewAccount => new_account(&signed()?, state),
        Step::Account => account(&signed()?, &request.path, state),
        Step::NewOrder => orders::new_order(&signed()?, state),
        Step::Order => orders::order(&signed()?, number(&request.path)?, state),
        Step::Authorization => orders::authorization(&signed()?, number(&request.path)?, state),
        Step::Challenge => orders::challenge(&signed()?, &request.path, state),
        Step::Finalize => orders::finalize(&signed()?, number(&request.path)?, state),
        Step::Certificate => orders::certificate(&signed()?, number(&request.path)?, state),
        // No request leads to it.
        Step::Validation => Err(Problem::malformed("not a resource")),
    }
}

fn directory(state: &CaState) -> CaResponse {
    let data = state.data();
    let profiles: serde_json::Map<_, _> = data
        .settings
        .profiles
        .iter()
        .map(|name| ((*name).to_owned(), json!(format!("the profile {name}"))))
        .collect();
    let mut directory = json!({
        "newNonce": state.url("/nonce"),
        "newAccount": state.url("/account"),
        "newOrder": state.url("/order"),
        "meta": {
            "termsOfService": state.url("/terms"),
            "externalAccountRequired": !data.settings.external_accounts.is_empty(),
            "profiles": profiles,
        },
    });
    if data.settings.renewal.is_some() {
        directory["renewalInfo"] = json!(state.url("/renewal"));
    }
    CaResponse::json(200, &directory)
}

/// RFC 9773 4.2.
fn renewal_info(id: &str, state: &CaState) -> Result<CaResponse, Problem> {
    let data = state.data();
    let missing = || Problem::new(404, "malformed", "no such certificate");
    let window = data.settings.renewal.ok_or_else(missing)?;
    if !data.issued.iter().any(|issued| issued.renewal_id == id) {
        return Err(missing());
    }
    let at = |offset: i64| {
        let distance = Duration::from_secs(offset.unsigned_abs());
        rfc3339(if offset < 0 { now() - distance } else { now() + distance })
    };
    let window_json = json!({ "start": at(window.start), "end": at(window.end) });
    let response = CaResponse::json(200, &json!({ "suggestedWindow": window_json }));
    Ok(response.header("Retry-After", window.ask_again.to_string()))
}

/// Checks the signature, URL and nonce of a request (RFC 8555 6.2 to 6.5).
fn signed(request: &CaRequest, state: &CaState) -> Result<Signed, Problem> {
    if request.content_type.as_deref() != Some("application/jose+json") {
        return Err(Problem::new(
            415,
            "malformed",
            "the content type is not application/jose+json",
        ));
    }
    let object = serde_json::from_slice(&request.body)
        .map_err(|_| Problem::malformed("the body is not JSON"))?;
    let jws = Jws::parse(&object)?;
    let mut data = state.data();
    let (key, account) = match (jws.jwk(), jws.header("kid")) {
        (Some(jwk), "") => (AccountKey::from_jwk(jwk)?, None),
        (None, kid) if !kid.is_empty() => {
            let number =
                (0..data.accounts.len()).find(|n| state.url(format!("/account/{n}")) == kid);
            let unknown = || {
                let detail = format!("Account {kid:?} not found");
                Problem::new(400, "accountDoesNotExist", detail)
            };
            let number = number.ok_or_else(unknown)?;
            (data.accounts[number].key.clone(), Some(number))
        }
        _ => return Err(Problem::malformed("a request has either a jwk or a kid")),
    };
    jws.verify(&key)?;
    if !data.nonces.remove(jws.header("nonce")) {
        let detail = format!("JWS has an invalid anti-replay nonce: {:?}", jws.header("nonce"));
        return Err(Problem::new(400, "badNonce", detail));
    }
    if jws.header("url") != state.url(&request.path) {
        let detail = format!("the JWS is for {:?}", jws.header("url"));
        return Err(Problem::new(401, "unauthorized", detail));
    }
    if account.is_some_and(|number| data.accounts[number].is_deactivated) {
        let detail = "Account is not valid, has status \"deactivated\"";
        return Err(Problem::new(403, "unauthorized", detail));
    }
    Ok(Signed { payload: jws.payload()?, key, account })
}

fn new_account(signed: &Signed, state: &CaState) -> Result<CaResponse, Problem> {
    if signed.account.is_some() {
        return Err(Problem::malformed("a new account is requested with a jwk, not a kid"));
    }
    let wanted = signed.object()?;
    let mut data = state.data();
    if let Some(number) = data.accounts.iter().position(|account| account.key == signed.key) {
        if data.accounts[number].is_deactivated {
            let detail = "An account with the provided public key exists but is deactivated";
            return Err(Problem::new(403, "unauthorized", detail));
        }
        return Ok(account_response(200, number, &data, state));
    }
    if wanted["onlyReturnExisting"] == true {
        let detail = "No account exists with the provided key";
        return Err(Problem::new(400, "accountDoesNotExist", detail));
    }
    if wanted["termsOfServiceAgreed"] != true {
        return Err(Problem::new(
            403,
            "userActionRequired",
            "the terms of service are not agreed to",
        ));
    }
    let contact = wanted["contact"].clone();
    let is_mail = |contact: &Value| contact.as_str().is_some_and(|c| c.starts_with("mailto:"));
    if contact.as_array().is_some_and(|contacts| !contacts.iter().all(is_mail)) {
        return Err(Problem::new(400, "unsupportedContact", "contacts are mailto: URLs"));
    }
    let external = external_account(wanted, signed, &data, state)?;
    let key = signed.key.clone();
    data.accounts.push(CaAccount { key, contact, external, is_deactivated: false });
    Ok(account_response(201, data.accounts.len() - 1, &data, state))
}

/// RFC 8555 7.3.4.
fn external_account(
    wanted: &Value,
    signed: &Signed,
    data: &Data,
    state: &CaState,
) -> Result<Option<String>, Problem> {
    let known = &data.settings.external_accounts;
    let Some(binding) = wanted.get("externalAccountBinding").filter(|b| !b.is_null()) else {
        let detail = "this CA needs an external account binding";
        let missing = Problem::new(403, "externalAccountRequired", detail);
        return if known.is_empty() { Ok(None) } else { Err(missing) };
    };
    let jws = Jws::parse(binding)?;
    let kid = jws.header("kid").to_owned();
    let unknown = || Problem::new(403, "unauthorized", "unknown external account");
    let bound = jws.bound_key(known.get(&kid).ok_or_else(unknown)?)?;
    if bound != signed.key || jws.header("url") != state.url("/account") {
        let detail = "the external account binding is for another key or URL";
        return Err(Problem::new(403, "unauthorized", detail));
    }
    Ok(Some(kid))
}

fn account(signed: &Signed, path: &str, state: &CaState) -> Result<CaResponse, Problem> {
    let number = signed.account()?;
    let mut data = state.data();
    if state.url(path) != state.url(format!("/account/{number}")) {
        return Err(Problem::new(401, "unauthorized", "this is another account"));
    }
    let account = &mut data.accounts[number];
    if let Some(changes) = &signed.payload {
        account.is_deactivated |= changes["status"] == "deactivated";
        if let Some(contact) = changes.get("contact") {
            account.contact = contact.clone();
        }
    }
    Ok(account_response(200, number, &data, state))
}

fn account_response(status: u16, number: usize, data: &Data, state: &CaState) -> CaResponse {
    let account = &data.accounts[number];
    let url = state.url(format!("/account/{number}"));
    let body = json!({
        "status": if account.is_deactivated { "deactivated" } else { "valid" },
        "contact": account.contact,
        "orders": format!("{url}/orders"),
    });
    CaResponse::json(status, &body).header("Location", url)
}

/// A point in time, in seconds and UTC.
fn rfc3339(at: SystemTime) -> String {
    let at = rcgen::date_time_ymd(1970, 1, 1) + at.duration_since(UNIX_EPOCH).unwrap();
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", at.year())
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn number(path: &str) -> Result<usize, Problem> {
    last_part(path).parse().map_err(|_| Problem::new(404, "malformed", "no such resource"))
}
