//! The laws of `simulation` and `headers`, held for random input, and for the fuzzers' corpus.

use std::fs;
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;

use crate::{headers, simulation};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn every_conversation_keeps_the_laws(script in prop::collection::vec(any::<u8>(), 2..400)) {
        simulation::drive(&script, start());
    }

    #[test]
    fn every_header_keeps_the_laws(bytes in header(), rest in prop::collection::vec(any::<u8>(), 0..40)) {
        headers::drive(&[bytes, rest].concat());
    }
}

/// Two bytes that mean anything, then lengths near the edges.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let length =
        prop::sample::select(vec![0, 1, 125, 126, 0xffff, 0x1_0000, u64::MAX >> 1, u64::MAX]);
    (any::<[u8; 2]>(), length, 0..3usize).prop_map(|(start, length, form)| {
        let bytes = length.to_be_bytes();
        [&start[..], &bytes[[8, 6, 0][form]..]].concat()
    })
}

/// What the fuzzers have found worth keeping, and every defect they ever found.
#[test]
fn the_corpus_keeps_the_laws() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let read = |target: &str| {
        let files = fs::read_dir(corpus.join(target)).expect("a corpus");
        let files = files.map(|file| fs::read(file.expect("a file").path()).expect("readable"));
        let files: Vec<_> = files.collect();
        assert!(files.len() >= 10, "the corpus of {target} is here");
        files
    };
    for bytes in read("header") {
        headers::drive(&bytes);
    }
    for script in read("session") {
        simulation::drive(&script, start());
    }
}

/// Some instant to start from.
#[expect(clippy::disallowed_methods, reason = "the clock itself is simulated")]
pub fn start() -> Instant {
    Instant::now()
}
