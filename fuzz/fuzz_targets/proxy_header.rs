//! Arbitrary first bytes of a connection that expects a PROXY header.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/proxy_header.rs"]
mod proxy_header;

fuzz_target!(|bytes: &[u8]| proxy_header::drive(bytes));
