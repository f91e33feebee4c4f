//! Lines of `X-Forwarded-For` and `Forwarded`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/forwarded.rs"]
mod forwarded;

fuzz_target!(|bytes: &[u8]| forwarded::drive(bytes));
