//! A stream of HTTP/2 and its client, which take turns in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/properties/http2.rs"]
mod http2;

fuzz_target!(|script: &[u8]| http2::drive(script));
