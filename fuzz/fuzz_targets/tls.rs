//! A TLS connection: strangers' bytes, or a client's in any pieces and with any damage.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/tls.rs"]
mod tls;

fuzz_target!(|script: &[u8]| tls::drive(script));
