//! Arbitrary lines of `X-Forwarded-For` and `Forwarded`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/forwarded.rs"]
mod forwarded;

fuzz_target!(|bytes: &[u8]| forwarded::drive(bytes));
