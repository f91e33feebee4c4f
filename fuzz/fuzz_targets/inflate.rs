//! A compressed client message, in arbitrary frames and pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/inflate.rs"]
mod inflate;
#[path = "../../tests/properties/reference.rs"]
mod reference;

fuzz_target!(|script: &[u8]| inflate::drive(script, false));
