//! A whole session: two peers, two streams and time.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/reference.rs"]
mod reference;
#[path = "../../tests/properties/script.rs"]
mod script;
#[path = "../../tests/properties/session_model.rs"]
mod session_model;

fuzz_target!(|script: &[u8]| {
    session_model::drive(script);
});
