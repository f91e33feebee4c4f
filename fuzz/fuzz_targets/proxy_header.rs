//! The first bytes of a connection that should begin with a PROXY header.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/proxy_header.rs"]
mod proxy_header;

fuzz_target!(|bytes: &[u8]| proxy_header::drive(bytes));
