use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

/// Chain and key for one name.
fn pems() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A temporary folder that is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("tidegate-pair-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The chain and key files in this folder, which may not exist yet.
    fn source(&self) -> CertificateSource {
        CertificateSource::Files { chain: self.0.join("chain.pem"), key: self.0.join("key.pem") }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// Requirements: CK04.
#[test]
fn invalid_pem_is_named_but_never_shown() {
    let (chain, key) = pems();
    let bare = key.replace('\n', "");
    let locked = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
    let folder = Folder::new("ck04");
    let with = |key: &str| (chain.clone(), key.to_owned());
    for ((chain, key), of, words) in [
        ((String::new(), key.clone()), "chain", "holds no certificate"),
        (("# only words\n".to_owned(), key.clone()), "chain", "holds no certificate"),
        ((key.clone(), key.clone()), "chain", "holds a private key and no certificate"),
        ((chain[..chain.len() / 2].to_owned(), key.clone()), "chain", "cut short"),
        (with(""), "key", "holds no private key"),
        (with("# only words\n"), "key", "holds no private key"),
        (with(&chain), "key", "holds a certificate and no private key"),
        (with(&key.repeat(2)), "key", "holds 2 private keys"),
        (with(&format!("{key}{RSA_1024}")), "key", "holds 2 private keys"),
        (with(&key.replace("PRIVATE", "ENCRYPTED PRIVATE")), "key", "is encrypted"),
        (with(locked), "key", "is encrypted"),
        (with(DSA), "key", "a DSA key"),
        (with(DSA_PKCS8), "key", "not a usable private key"),
        (with(RSA_1024), "key", "RSA of 2048 bits or more"),
        (with(&bare), "key", "not PEM: a part has no END line"),
        (with(&key.replacen("KEY-----\n", "KEY-----", 1)), "key", "not PEM: a BEGIN line"),
        (with(&key.replace("\nM", "\n!")), "key", "not Base64"),
        (with(&key[..key.len() / 2]), "key", "cut short"),
        (with(&pems().1), "key", "this is not the key of"),
    ] {
        folder.write("chain.pem", &chain);
        folder.write("key.pem", &key);
        let Err(errors) = read(&folder.source()) else { panic!("{words:?} is accepted") };
        let [error] = &errors[..] else { panic!("{} errors", errors.len()) };
        assert_eq!(error.of, of, "{}", error.problem);
        for word in [words, &format!("{}/{of}.pem", folder.0.display())] {
            assert!(error.problem.contains(word), "{word:?} is not in {}", error.problem);
        }
        let secrets = key.lines().filter(|line| line.len() > 40).chain([&*bare]);
        for secret in secrets {
            for part in secret.as_bytes().windows(12).step_by(6).skip(5) {
                let part = std::str::from_utf8(part).unwrap();
                assert!(!error.problem.contains(part), "{part} of the key is in {}", error.problem);
            }
        }
    }
    for (chain, word) in
        [("/nowhere.pem", "/nowhere.pem: No such file"), ("/", "/: not a regular file")]
    {
        let source = CertificateSource::Files { chain: chain.into(), key: "/".into() };
        let Err(errors) = read(&source) else { panic!("{chain} is accepted") };
        let error = &errors[0];
        assert!(error.of == "chain" && error.problem.contains(word), "{}", error.problem);
        // Both files are reported.
        assert!(errors[1].of == "key" && errors[1].problem.contains("not a regular file"));
    }
}

// Requirements: CK04.
#[test]
fn swapped_chain_and_key_are_named() {
    let (chain, key) = pems();
    let folder = Folder::new("swapped");
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    for in_chain in [&key, &encrypted] {
        folder.write("chain.pem", in_chain);
        folder.write("key.pem", &chain);
        let Err(errors) = read(&folder.source()) else { panic!("swapped files are accepted") };
        assert_eq!(errors.len(), 1);
        let path = |name: &str| folder.0.join(name).display().to_string();
        let expected = format!(
            "chain and key are swapped: {} is a private key, and {} a certificate",
            path("chain.pem"),
            path("key.pem")
        );
        assert_eq!((errors[0].of, &errors[0].problem), ("chain", &expected));
    }
}

#[test]
fn one_file_may_hold_both() {
    let (chain, key) = pems();
    let folder = Folder::new("both");
    folder.write("both.pem", &format!("words\n{key}more words, ENCRYPTED or not\n{chain}"));
    let path = folder.0.join("both.pem");
    let source = CertificateSource::Files { chain: path.clone(), key: path };
    assert!(read(&source).is_ok());
}

// Requirements: CK06.
#[test]
fn detects_a_replaced_pair() {
    let folder = Folder::new("ck06");
    for version in ["1", "2"] {
        let (chain, key) = pems();
        folder.write(&format!("chain{version}.pem"), &chain);
        folder.write(&format!("key{version}.pem"), &key);
    }
    let point = |name: &str, version: &str| {
        let _ = fs::remove_file(folder.0.join(name));
        let (stem, _) = name.split_once('.').unwrap();
        symlink(format!("{stem}{version}.pem"), folder.0.join(name)).unwrap();
    };
    point("chain.pem", "1");
    point("key.pem", "1");
    let first = read(&folder.source()).ok().unwrap();
    assert_eq!(FileState::now(&folder.source()), first.files);
    // First only the chain is new, then both files are.
    point("chain.pem", "2");
    assert_ne!(FileState::now(&folder.source()), first.files);
    assert!(read(&folder.source()).is_err());
    point("key.pem", "2");
    let second = read(&folder.source()).ok().unwrap();
    assert!(second.files != first.files && second.key.cert != first.key.cert);
    // Overwritten in place, as `cp` does.
    fs::copy(folder.0.join("key1.pem"), folder.0.join("key2.pem")).unwrap();
    assert_ne!(FileState::now(&folder.source()), second.files);
    fs::remove_file(folder.0.join("key2.pem")).unwrap();
    assert_eq!(FileState::now(&folder.source()).key, None);
}

// Requirements: CK06.
#[test]
fn rereads_a_pair_swapped_during_reading() {
    let folder = Folder::new("swap");
    let pairs = [pems(), pems()];
    let put = |name: &str, text: &str| {
        folder.write("new.pem", text);
        fs::rename(folder.0.join("new.pem"), folder.0.join(name)).unwrap();
    };
    // How many of the two files are replaced before they are read for the first time; the rest is
    // replaced before they are read again.
    for early in 0..=2 {
        put("chain.pem", &pairs[0].0);
        put("key.pem", &pairs[0].1);
        let mut swap = [("chain.pem", &pairs[1].0), ("key.pem", &pairs[1].1)].into_iter();
        let mut times = 0;
        let pair = read_by(&folder.source(), |source| {
            times += 1;
            swap.by_ref().take(early).for_each(|(name, text)| put(name, text));
            let found = read_once(source);
            assert_eq!(found.is_err(), (early, times) == (1, 1));
            swap.by_ref().for_each(|(name, text)| put(name, text));
            found
        });
        let pair = pair.ok().unwrap();
        assert_eq!(pair.files, FileState::now(&folder.source()));
        assert!(pair.key.keys_match().is_ok());
        assert_eq!(times, if early == 2 { 1 } else { 2 });
    }
}

// Requirements: CK07.
#[test]
fn warns_about_a_world_readable_key() {
    let folder = Folder::new("ck07");
    let (chain, key) = pems();
    folder.write("chain.pem", &chain);
    folder.write("key.pem", &key);
    for (mode, warns) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
        let path = folder.0.join("key.pem");
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let warnings = read(&folder.source()).ok().unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(warns), "{mode:o}");
        for CertProblem { of, problem } in warnings {
            let mode = format!("(mode {mode:04o})");
            assert!(of == "key" && problem.contains(&mode), "{problem}");
            assert!(problem.contains("key.pem"), "{problem}");
        }
    }
}

/// Generated for this test and used nowhere else.
const RSA_1024: &str = "\
-----BEGIN RSA PRIVATE KEY-----\n\
MIICXwIBAAKBgQDAZyu45wicjfZJnuQZ0A7/qrS9yMlrs4KIsMSeyfhcc3W4uY5K\n\
sixhyDUUFMuTZhzF0W89sIOIR4zADODTttQXHLqQu6UYP7epFf0z9SFNf34yWc94\n\
lhhKXu2+Q0URebw8cfn3LdNnF5BP/RvxodbETojtmwIIS76JJ4Xt/QPQhQIDAQAB\n\
AoGBALR4EWq+SjWOcxVbFFmh7m+hjyb0zvlWx3mvVL4cc/lD04gRhIZL2ZVeVWsg\n\
llML1LE4YT9b8gRCGKOLcNclBomEkLY5aoKsLilWWkWV2KRcuoYZSQbzQPMZhFaY\n\
ebb+Uy0ilQ5H2wx4dXfNep7Y4kAClBUMXsPCkN8sRgQZtwQBAkEA9vBudOTkm7xB\n\
eKfkLV1DsL45uHJyFwecRltGB15Zc+UBC6u/SRn4xdKLWY2nbE0RL3McFvgdOdwD\n\
2cOCdjzfWQJBAMd2d0GvBucTs9KfsJiZBKeTLslHkaOuCc364ai1vx5zxPh8qD9w\n\
LzRIKV/H8RuL/ql2eDogxcAbrwb5henyIQ0CQQC//7kiUkYdgIY3VfLoArf62Czw\n\
6KsklNpBKf6NBCLxJYFmnachI3x183o9qxId9t4B0rJoeYnfzt1/l6/8VuAhAkEA\n\
hmbM9PV7MTmVcdcop6pz+Ha0j+wptqEO+jyS0ZulrF9V2holRJnTNOdq+Z9AV899\n\
SbMKUCDFHy2IQqrgEUOWAQJBAIKdFNTFDd7oO7dBKJbSnpmKGa9SS2xGUmn5yN89\n\
bgrb8+yb6oFJNe1JPVbz3I4xCTWuzv8Lykx9CvGt3NeL2S8=\n\
-----END RSA PRIVATE KEY-----\n";
/// Generated for this test and used nowhere else.
const DSA: &str = "\
-----BEGIN DSA PRIVATE KEY-----\n\
MIIBygIBAAKBgQDmYfA1cfKlrdeyM0ReIGQN2YxZ0HjTlv1RhnpfmpAopJLpxXOm\n\
AguNrUZzPV9RMbjRZtbRkez5MqCSL04CqsgD2ih5Vw8HUTaKC+dqYgH0qGUogfhr\n\
YIc7vtR/yNe8neuCp8qSWrSX3Y6SYuVB0zLUqbVhDEYMfPRo3utdJLTQpwIdAIki\n\
dmxsglcR2FTSJ6f/JyDuu0WVmu414B65o0cCgYB16XhU8Dqu1oPYwfngtuGJnIcU\n\
ShSavAe0rBYrTl5FTa9YgcAXS0FF6QxFm4lchxr5C34eg64jV1KULCtHanfazS6R\n\
Fx9LvTfIz30S8OoLx+THdNMoD1HgEcJl3EUdqWm/Z/OOhJk4GHpvTbbFMiObqsiX\n\
T0h5b/cwKT7AbabBnQKBgBTYihw4R11kp4E57fySihOhp0FSkZ5dDHGkDpG5OB78\n\
EIUAN58enYprC0X0jn0G5B65om0VWtFAQtyj3OE0kRPFAbPYBDDGn4wEBuqk6oD3\n\
h1KtwY1r5aeJ8X+5NoQq4W8x9DV6o391FyhZTjQvCWx+sPTnxXASGaCgy3FW467M\n\
AhxWx8+B2kx9ba8rnBnX1pvwQCOmEYSGlbU0igQn\n\
-----END DSA PRIVATE KEY-----\n";
/// [`DSA`] in PKCS #8.
const DSA_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIIBWgIBADCCATMGByqGSM44BAEwggEmAoGBAOZh8DVx8qWt17IzRF4gZA3ZjFnQ\n\
eNOW/VGGel+akCikkunFc6YCC42tRnM9X1ExuNFm1tGR7PkyoJIvTgKqyAPaKHlX\n\
DwdRNooL52piAfSoZSiB+Gtghzu+1H/I17yd64KnypJatJfdjpJi5UHTMtSptWEM\n\
Rgx89Gje610ktNCnAh0AiSJ2bGyCVxHYVNInp/8nIO67RZWa7jXgHrmjRwKBgHXp\n\
eFTwOq7Wg9jB+eC24YmchxRKFJq8B7SsFitOXkVNr1iBwBdLQUXpDEWbiVyHGvkL\n\
fh6DriNXUpQsK0dqd9rNLpEXH0u9N8jPfRLw6gvH5Md00ygPUeARwmXcRR2pab9n\n\
846EmTgYem9NtsUyI5uqyJdPSHlv9zApPsBtpsGdBB4CHFbHz4HaTH1tryucGdfW\n\
m/BAI6YRhIaVtTSKBCc=\n\
-----END PRIVATE KEY-----\n";
