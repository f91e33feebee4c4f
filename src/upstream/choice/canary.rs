//! Which requests go to the canary backends of a pool.

use std::sync::{Mutex, PoisonError};

use super::rendezvous::KeyHash;
use crate::config::settings::choice::CanarySettings;
use crate::config::values::share::Share;

/// The share that an operator has set, kept across reloads until the file has another one.
#[derive(Debug, Default)]
pub struct CanaryOverride(Mutex<Option<OverriddenShare>>);

#[derive(Clone, Copy, Debug)]
struct OverriddenShare {
    share: Share,
    /// That of the file at the time.
    configured: Share,
}

impl CanaryOverride {
    /// Replaces the share of the file; `None` restores it.
    pub fn set(&self, share: Option<Share>, settings: &CanarySettings) {
        let overridden = share.map(|share| OverriddenShare { share, configured: settings.share });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = overridden;
    }

    /// The share that replaces that of the file.
    pub fn get(&self, settings: &CanarySettings) -> Option<Share> {
        let overridden = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        overridden.filter(|of| of.configured == settings.share).map(|of| of.share)
    }

    /// Ends it if the file has another share by now.
    pub fn settle(&self, settings: &CanarySettings) {
        let mut overridden = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *overridden = overridden.filter(|of| of.configured == settings.share);
    }
}

/// What a request says about canaries.
#[derive(Clone, Copy, Debug)]
pub struct CanaryRequest {
    /// The hash of its key.
    pub key: KeyHash,
    /// Whether it has what [`CanarySettings::request`] asks for.
    pub is_marked: bool,
    /// Whether the backend that its pin cookie names is a canary.
    pub pinned: Option<bool>,
}

/// Whether a request goes to the canary backends. A client with a pin cookie stays where it is; a larger share
/// moves only keys that it adds. Without a share, by command or with no mark, no request does.
pub fn is_selected(
    request: CanaryRequest,
    overridden: Option<Share>,
    settings: &CanarySettings,
) -> bool {
    let share = overridden.unwrap_or(settings.share);
    let is_aborted = share == Share::ZERO && (overridden.is_some() || settings.request.is_none());
    if is_aborted {
        return false;
    }
    let is_in_share = || request.key.fraction(PURPOSE) < share.fraction();
    request.is_marked || request.pinned.unwrap_or_else(is_in_share)
}

/// Keeps the share of a key independent of its backend.
const PURPOSE: &[u8] = b"canary";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: usize) -> KeyHash {
        KeyHash::of_text(format!("client-{number}").as_bytes())
    }

    fn request(number: usize) -> CanaryRequest {
        CanaryRequest { key: key(number), is_marked: false, pinned: None }
    }

    fn settings(percent: u32) -> CanarySettings {
        CanarySettings { share: Share::percent(percent), request: None }
    }

    fn selected(percent: u32) -> usize {
        (0..20_000).filter(|n| is_selected(request(*n), None, &settings(percent))).count()
    }

    #[test]
    fn share_is_exact_within_half_a_point() {
        for percent in [0, 1, 5, 10, 25, 50, 75, 99, 100] {
            let found = selected(percent) as f64 / 200.0;
            assert!((found - f64::from(percent)).abs() <= 0.5, "{found} % instead of {percent} %");
        }
        assert_eq!((selected(0), selected(100)), (0, 20_000));
    }

    #[test]
    fn pin_and_mark_decide_before_the_share() {
        let pinned = |of| CanaryRequest { pinned: Some(of), ..request(0) };
        let marked = CanaryRequest { is_marked: true, ..pinned(false) };
        for percent in [1, 100] {
            assert!(is_selected(pinned(true), None, &settings(percent)));
            assert!(!is_selected(pinned(false), None, &settings(percent)));
            assert!(is_selected(marked, None, &settings(percent)));
        }
        // An abort sends all home.
        for aborted in [pinned(true), marked] {
            assert!(!is_selected(aborted, Some(Share::ZERO), &settings(50)));
        }
        assert!(!is_selected(pinned(true), None, &settings(0)));
    }

    #[test]
    fn command_holds_until_the_file_changes() {
        let overridden = CanaryOverride::default();
        overridden.set(Some(Share::percent(7)), &settings(5));
        assert_eq!(overridden.get(&settings(5)), Some(Share::percent(7)));
        assert_eq!(overridden.get(&settings(6)), None);
        overridden.settle(&settings(5));
        assert_eq!(overridden.get(&settings(5)), Some(Share::percent(7)));
        // It does not come back with the earlier file.
        overridden.settle(&settings(6));
        assert_eq!(overridden.get(&settings(5)), None);
        overridden.set(Some(Share::percent(7)), &settings(5));
        overridden.set(None, &settings(5));
        assert_eq!(overridden.get(&settings(5)), None);
    }

    proptest! {
        #[test]
        fn larger_share_keeps_those_that_were_selected(n in any::<usize>(), less in 0u32..=100, more in 0u32..=100) {
            let (less, more) = (less.min(more), less.max(more));
            let of = |percent| is_selected(request(n), None, &settings(percent));
            prop_assert!(!of(less) || of(more));
        }
    }
}
