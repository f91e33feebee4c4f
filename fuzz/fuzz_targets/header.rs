//! Arbitrary bytes parsed as frame headers.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/headers.rs"]
mod headers;

fuzz_target!(|bytes: &[u8]| headers::drive(bytes));
