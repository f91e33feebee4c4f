//! A whole conversation: two peers, two streams, time.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/laws/reference.rs"]
mod reference;
#[path = "../../tests/laws/script.rs"]
mod script;
#[path = "../../tests/laws/simulation.rs"]
mod simulation;

fuzz_target!(|script: &[u8]| {
    simulation::drive(script);
});
