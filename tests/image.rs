//! The image: what `Dockerfile` copies is part of the build context.

#[test]
fn copied_files_are_in_the_build_context() {
    let ignored = include_str!("../.dockerignore");
    let sources = include_str!("../Dockerfile").lines().filter_map(|line| {
        let words = line.strip_prefix("COPY ")?;
        // From an earlier stage, and not from the context.
        (!words.starts_with("--from")).then(|| words.split(' ').rev().skip(1))
    });
    let sources: Vec<&str> = sources.flatten().collect();
    assert!(sources.contains(&"Cargo.toml"), "{sources:?}");
    for source in sources {
        let is_sent = |line: &str| {
            let sent = line.strip_prefix('!').and_then(|kept| kept.strip_prefix(source));
            sent.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        assert!(ignored.lines().any(is_sent), "{source} is not in .dockerignore");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        assert!(path.exists(), "{source} does not exist");
    }
}
