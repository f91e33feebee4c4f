//! Which backend has an open tunnel, and what else is carried over from one answer to the next. An address of a name is a
//! backend of its own or one of those of the name, and an answer may change that while tunnels are open.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::members::Member;
use super::{Backend, Pool, PoolBackends};
use crate::telemetry::events::address_override_back;
use crate::telemetry::metrics::handles::BackendCounts;

impl Pool {
    /// The id of the backend that has the tunnels with these counters: the one at the address that they were opened to.
    /// An address that has left the answer for its name is an id of its own.
    pub fn backend_with(&self, counts: &BackendCounts) -> Arc<str> {
        let names = || self.names.iter().enumerate();
        let Some((index, listed)) = names().find(|(_, listed)| listed.id == *counts.listed_id())
        else {
            return counts.id.clone();
        };
        let (backends, place) = (self.backends(), counts.place());
        if backends.iter().any(|backend| backend.id == *place) {
            return place.clone();
        }
        let is_one = backends.iter().any(|backend| backend.id == listed.id);
        let has_address = |address: SocketAddr| match backends.answer(index) {
            [] => true,
            answer => answer.contains(&address),
        };
        match is_one && place.parse().is_ok_and(has_address) {
            true => listed.id.clone(),
            false => place.clone(),
        }
    }

    /// When the addresses of a name become one backend or several, or one of two families is missing, the first backend
    /// at an address that it had before has the tunnels that are counted there.
    pub(super) fn share_loads(
        &self,
        members: &[Member],
        answers: &[Arc<[SocketAddr]>],
        previous: &PoolBackends<'_>,
    ) {
        for (index, (listed, answer)) in self.names.iter().zip(answers).enumerate() {
            let before = || {
                let is_of_name = |of: &&Arc<Backend>| of.listed_id() == &listed.id;
                previous.iter().filter(is_of_name)
            };
            let after = || {
                let of_name =
                    |of: &&Member| of.listed.as_ref().is_some_and(|of| of.id == listed.id);
                members.iter().filter(of_name)
            };
            let was = previous.answer(index);
            let has = |addresses: &[SocketAddr], id: &str| {
                id.parse().is_ok_and(|address| addresses.contains(&address))
            };
            let (one_before, one_after) = (
                before().find(|of| of.id == listed.id),
                after().find(|of| of.settings.id == listed.id),
            );
            let pair = match (one_before, one_after) {
                (Some(before), Some(after)) => {
                    was.iter().any(|address| answer.contains(address)).then_some((before, after))
                }
                (Some(before), None) => {
                    after().find(|of| has(was, &of.load_id)).map(|of| (before, of))
                }
                (None, Some(after)) => {
                    before().find(|of| has(answer, &of.id)).map(|of| (of, after))
                }
                (None, None) => None,
            };
            if let Some((before, after)) = pair {
                self.state.share_load(&after.load_id, &before.load);
            }
        }
    }

    /// Records which addresses are members, for what an operator has set for them.
    pub(super) fn settle_overrides(&self, members: &[Member]) {
        if self.names.is_empty() {
            return;
        }
        let present: HashSet<&str> = members.iter().map(|member| &*member.load_id).collect();
        for listed in self.names.iter() {
            for (address, set) in listed.addresses.settle(|address| present.contains(&**address)) {
                let (is_drained, weight) = (set.drain.is_draining(), set.weight());
                address_override_back(
                    &listed.id,
                    &address,
                    is_drained,
                    weight.map(NonZeroU32::get),
                );
            }
        }
    }
}
