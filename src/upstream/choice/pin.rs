//! Pin cookies: the name of a backend, so that a client comes back to it whatever its address. The cookie
//! decides about the backend and about nothing else. One that was not made here is ignored.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::BASE64URL_NOPAD;
use hyper::HeaderMap;
use hyper::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};

use super::pin_keys::PinKeys;
use crate::config::settings::choice::PinSettings;
use crate::config::settings::pool::BackendSettings;
use crate::http::cookies;
use crate::http::fields::list_members;
use crate::telemetry::metrics::chosen_by::ChosenBy;

/// The cookies that name the backends of one pool.
#[derive(Debug)]
pub struct PinCookies {
    name: String,
    /// By the first part of the value, which is no secret.
    values: HashMap<[u8; SELECTOR_BYTES], KnownValue>,
    /// The values that another proxy has issued.
    foreign: HashMap<Arc<str>, Arc<str>>,
    /// `Set-Cookie` for each backend, by its id.
    issued: HashMap<Arc<str>, HeaderValue>,
}

#[derive(Debug)]
struct KnownValue {
    verifier: [u8; VERIFIER_BYTES],
    id: Arc<str>,
    /// Whether the key that signs made it.
    is_current: bool,
}

/// The backend that a cookie names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The id of the backend.
    pub id: Arc<str>,
    /// [`ChosenBy::Pin`] or [`ChosenBy::CookieValue`].
    pub reason: ChosenBy,
    /// Whether the client may keep the cookie.
    is_current: bool,
}

impl PinCookies {
    /// Computes the cookies of these backends.
    pub fn new(settings: &PinSettings, keys: &PinKeys, backends: &[BackendSettings]) -> Self {
        let mut table = Self {
            name: settings.cookie.clone(),
            values: HashMap::new(),
            foreign: HashMap::new(),
            issued: HashMap::new(),
        };
        for BackendSettings { id, cookie_value, .. } in backends {
            for (number, tag) in keys.tags(&[DOMAIN, id.as_bytes()].concat()).enumerate() {
                table.add(settings, id, tag.as_ref(), number == 0);
            }
            if let Some(value) = cookie_value {
                table.foreign.insert(value.clone(), id.clone());
            }
        }
        table
    }

    fn add(&mut self, settings: &PinSettings, id: &Arc<str>, tag: &[u8], is_current: bool) {
        let Some((selector, rest)) = tag.split_first_chunk() else { return };
        let Some((verifier, _)) = rest.split_first_chunk() else { return };
        if is_current {
            let value = BASE64URL_NOPAD.encode(&[&selector[..], verifier].concat());
            if let Ok(field) = HeaderValue::try_from(set_cookie(settings, &value)) {
                self.issued.insert(id.clone(), field);
            }
        }
        let known = KnownValue { verifier: *verifier, id: id.clone(), is_current };
        self.values.insert(*selector, known);
    }

    /// The backend that the first valid cookie of a request names.
    pub fn read(&self, headers: &HeaderMap) -> Option<Pinned> {
        cookies::values(headers, &self.name).take(COOKIES_MAX).find_map(|value| self.parse(value))
    }

    fn parse(&self, value: &[u8]) -> Option<Pinned> {
        self.parse_own(value).or_else(|| {
            // HAProxy appends times after a bar.
            let text = std::str::from_utf8(value).ok()?;
            let word = text.split('|').next()?;
            let id = self.foreign.get(text).or_else(|| self.foreign.get(word))?.clone();
            // It stays: the other proxy may still be in use, and does not know those of this one.
            Some(Pinned { id, reason: ChosenBy::CookieValue, is_current: true })
        })
    }

    fn parse_own(&self, value: &[u8]) -> Option<Pinned> {
        let mut bytes = [0; SELECTOR_BYTES + VERIFIER_BYTES];
        if value.len() != BASE64URL_NOPAD.encode_len(bytes.len()) {
            return None;
        }
        BASE64URL_NOPAD.decode_mut(value, &mut bytes).ok()?;
        let (selector, verifier) = bytes.split_first_chunk::<SELECTOR_BYTES>()?;
        let known = self.values.get(selector)?;
        // In constant time, so that the time says nothing about the right value.
        verify_slices_are_equal(verifier, &known.verifier).ok()?;
        let KnownValue { id, is_current, .. } = known;
        Some(Pinned { id: id.clone(), reason: ChosenBy::Pin, is_current: *is_current })
    }

    /// Adds the cookie of the backend that has answered, unless the client has it already, or the response is
    /// for caches that share it among clients.
    pub fn issue(&self, pinned: Option<&Pinned>, id: &str, response: &mut HeaderMap) {
        let is_right = pinned.is_some_and(|pinned| pinned.is_current && *pinned.id == *id);
        let field = self.issued.get(id).filter(|_| !is_right && !is_shared(response));
        field.into_iter().for_each(|field| {
            response.append(SET_COOKIE, field.clone());
        });
    }
}

/// Whether caches may give a response to other clients although it sets a cookie (RFC 9111 7.3).
fn is_shared(response: &HeaderMap) -> bool {
    list_members(response, &CACHE_CONTROL).any(|member| {
        let name = member.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
    })
}

fn set_cookie(settings: &PinSettings, value: &str) -> String {
    let PinSettings { cookie, attributes, .. } = settings;
    let mut field = format!("{cookie}={value}; Path={}", attributes.path);
    if let Some(domain) = &attributes.domain {
        field.push_str("; Domain=");
        field.push_str(domain);
    }
    field.push_str("; SameSite=");
    field.push_str(attributes.same_site.attribute());
    let flags = [
        (attributes.secure, "; Secure"),
        (attributes.http_only, "; HttpOnly"),
        (attributes.partitioned, "; Partitioned"),
    ];
    flags.into_iter().filter(|(is_set, _)| *is_set).for_each(|(_, flag)| field.push_str(flag));
    field
}

/// What precedes the id, so that the key can be used for nothing else.
const DOMAIN: &[u8] = b"tidegate pin 1\0";
/// Bytes of a value by which it is found.
const SELECTOR_BYTES: usize = 8;
/// Bytes of a value that prove that it was made with the key: 128 bits.
const VERIFIER_BYTES: usize = 16;
/// Cookies of one name that are looked at.
const COOKIES_MAX: usize = 4;

#[cfg(test)]
mod tests;
