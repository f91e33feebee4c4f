//! A TLS connection: arbitrary bytes, or those of a client, split and corrupted.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/tls.rs"]
mod tls;

fuzz_target!(|script: &[u8]| tls::drive(script));
