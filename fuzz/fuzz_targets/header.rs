//! Bytes that claim to be frames.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/headers.rs"]
mod headers;

fuzz_target!(|bytes: &[u8]| headers::drive(bytes));
