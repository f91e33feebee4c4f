//! The pin cookies of one pool, computed again when its backends change.

use std::sync::{Arc, Mutex, PoisonError};

use super::pin::PinCookies;
use super::pin_keys::PinKeys;
use crate::config::settings::choice::PinSettings;
use crate::config::settings::pool::BackendSettings;

/// What the cookies are computed from. The routes of a pool share it.
#[derive(Debug)]
pub struct PinSource {
    settings: PinSettings,
    keys: PinKeys,
    /// The last ones, and the ids of the backends that they are for.
    computed: Mutex<Option<ComputedPins>>,
}

#[derive(Debug)]
struct ComputedPins {
    ids: Vec<Arc<str>>,
    cookies: Arc<PinCookies>,
}

impl PinSource {
    /// Cookies with these attributes, made with these keys.
    pub fn new(settings: PinSettings, keys: PinKeys) -> Self {
        Self { settings, keys, computed: Mutex::default() }
    }

    /// The cookies of these backends.
    pub fn cookies(&self, backends: &[BackendSettings]) -> Arc<PinCookies> {
        let mut computed = self.computed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of = |computed: &ComputedPins| {
            computed.ids.iter().eq(backends.iter().map(|backend| &backend.id))
        };
        if let Some(known) = computed.as_ref().filter(|known| is_of(known)) {
            return known.cookies.clone();
        }
        let cookies = Arc::new(PinCookies::new(&self.settings, &self.keys, backends));
        let ids = backends.iter().map(|backend| backend.id.clone()).collect();
        *computed = Some(ComputedPins { ids, cookies: cookies.clone() });
        cookies
    }
}
