//! A compressed message of a client, in whatever frames and pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/inflate.rs"]
mod inflate;
#[path = "../../tests/laws/reference.rs"]
mod reference;

fuzz_target!(|script: &[u8]| inflate::drive(script, false));
