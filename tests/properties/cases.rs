//! Runs the invariants of the other modules on random input and on the fuzz corpus.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::{forwarded, headers, inflate, proxy_header, session_model};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn random_sessions_keep_the_invariants(script in prop::collection::vec(any::<u8>(), 2..400)) {
        session_model::drive(&script);
    }

    #[test]
    fn random_compressed_messages_keep_the_invariants((script, valid) in compressed()) {
        inflate::drive(&script, valid);
    }

    #[test]
    fn random_frame_headers_keep_the_invariants(bytes in header(), rest in prop::collection::vec(any::<u8>(), 0..40)) {
        headers::drive(&[bytes, rest].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn random_proxy_headers_keep_the_invariants(bytes in proxy_header_bytes(), rest in prop::collection::vec(any::<u8>(), 0..40)) {
        proxy_header::drive(&[bytes, rest].concat());
    }

    #[test]
    fn random_forwarded_fields_keep_the_invariants(pieces in prop::collection::vec(address(), 0..30)) {
        forwarded::drive(pieces.concat().as_bytes());
    }
}

/// A message as an endpoint compresses it, with at most one corrupted byte.
fn compressed() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let message = (prop::collection::vec(any::<u8>(), 1..60), 0usize..900);
    let corruption = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (any::<[u8; 2]>(), message, 0u8..10, corruption).prop_map(
        |(cut, (seed, times), level, corruption)| {
            let mut bytes = miniz_oxide::deflate::compress_to_vec(&seed.repeat(times), level);
            // RFC 7692 7.2.3.4: a final block is followed by an empty one.
            bytes.push(0);
            if let Some((at, byte)) = corruption {
                *at.get_mut(&mut bytes) = byte;
            }
            ([&cut[..], &bytes].concat(), corruption.is_none())
        },
    )
}

/// A PROXY header, valid or nearly so.
fn proxy_header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let line = "(PROXY|proxy) (TCP4|TCP6|UNKNOWN)( [0-9.:a-f]{1,12}){0,4}(\r\n|\n)?";
    let block = prop::collection::vec(any::<u8>(), 0..60);
    let binary = (0x1fu8..0x24, prop::sample::select(vec![0, 0x11, 0x12, 0x21, 0x31]), block);
    prop_oneof![
        line.prop_map(String::into_bytes),
        (binary, 0..3u8).prop_map(|((version, family, block), less)| {
            let len = block.len() as u8 - less.min(block.len() as u8);
            [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[version, family, 0, len], &block].concat()
        }),
    ]
}

/// A fragment of a list of addresses.
fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("10.0.0.1, ".to_owned()),
        Just("for=10.0.0.1;proto=https,".to_owned()),
        Just("for=\"[fd00::1]:80\", ".to_owned()),
        "(for=)?\"?[0-9.:a-f\\[\\]]{0,16}\"?[,;\n]",
        "[ -~]{0,8}[,\n]?",
    ]
}

/// Two arbitrary bytes, then a length near a boundary.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let length =
        prop::sample::select(vec![0, 1, 125, 126, 0xffff, 0x1_0000, u64::MAX >> 1, u64::MAX]);
    (any::<[u8; 2]>(), length, 0..3usize).prop_map(|(start, length, form)| {
        let bytes = length.to_be_bytes();
        [&start[..], &bytes[[8, 6, 0][form]..]].concat()
    })
}

/// The inputs the fuzzers kept, including every defect they found.
#[test]
fn fuzz_corpus_keeps_the_invariants() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let read = |target: &str| {
        let files = fs::read_dir(corpus.join(target)).expect("a corpus");
        let files = files.map(|file| fs::read(file.expect("a file").path()).expect("readable"));
        let files: Vec<_> = files.collect();
        assert!(files.len() >= 10, "the corpus of {target} is incomplete");
        files
    };
    for bytes in read("header") {
        headers::drive(&bytes);
    }
    for bytes in read("proxy_header") {
        proxy_header::drive(&bytes);
    }
    for message in read("inflate") {
        inflate::drive(&message, false);
    }
    for lines in read("forwarded") {
        forwarded::drive(&lines);
    }
    for script in read("session") {
        session_model::drive(&script);
    }
}
