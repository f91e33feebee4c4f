//! Which backend of a pool a request goes to, and which ones are tried after it.
//!
//! | question | file |
//! | --- | --- |
//! | What is hashed: client, cookie, header, query, path? | `key.rs` |
//! | Which backend has a key? The hash that never changes | `rendezvous.rs` |
//! | Which requests go to canary backends? | `canary.rs` |
//! | In which order are the backends tried? | `order.rs` |
//! | Whose turn is it? | `round_robin.rs` |
//! | How many tunnels and requests does a backend have, and of which keys? | `load.rs` |
//! | Which cookie names a backend, and what is issued? | `pin.rs`, for the backends of the moment `pin_source.rs`; its keys: `pin_keys.rs` |
//! | Which handshakes wait for a backend that is full? | `queue.rs` |
//! | Which keys were moved to another backend lately? | `moved_keys.rs` |
//! | What is kept across reloads? | `state.rs` |

pub(crate) mod canary;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod moved_keys;
pub(crate) mod order;
pub(crate) mod pin;
pub(crate) mod pin_keys;
pub(crate) mod pin_source;
pub(crate) mod queue;
pub(crate) mod rendezvous;
pub(crate) mod round_robin;
pub(crate) mod state;
