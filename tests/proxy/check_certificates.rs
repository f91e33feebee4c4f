//! What `tidegate check` says about certificates and their hosts, together with all other errors.

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use crate::check_command::{check_errors, config, config_folder, run};

// Requirements: CK01, CK08.
#[test]
fn errors_of_file_certificate_and_machine_come_together() {
    let text = config(
        "[limits]\nidel = \"1h\"\n[concurrency]\nconnections = 90000000\ntunnels = 80000000\n",
    );
    let folder = config_folder(text);
    folder.write("chain.pem", "# only words\n");
    folder.write("key.pem", "# only words\n");
    let reported = check_errors(&folder);
    for key in [
        "certificate[0].chain: chain.pem: the file holds no certificate",
        "certificate[0].key: key.pem: the file holds no private key",
        "limits.idel: unknown key",
        "concurrency.connections: 90000000 connections need",
        "concurrency.tunnels: 80000000 connections need",
    ] {
        assert!(reported.contains(key), "{key} is not in {reported}");
    }
    assert!(reported.trim_end().ends_with("proxy.toml: 5 errors"), "{reported}");
}

#[test]
fn certificate_with_an_error_does_not_hide_others() {
    let more = "[[certificate]]\nchain = \"${CHAIN}\"\nkey = \"nowhere.key\"\n\
                [[certificate]]\ncert = \"a.pem\"\nkey = 5\n\
                [[certificate]]\nchain = \"nowhere.pem\"\nkey = \"key.pem\"\n";
    let reported = check_errors(&config_folder(config(more)));
    for expected in [
        "certificate[1].chain: variables such as",
        "certificate[1].key: nowhere.key: No such file",
        "certificate[2].cert: unknown key",
        "certificate[2].key: ",
        "certificate[3].chain: nowhere.pem: No such file",
    ] {
        assert!(reported.contains(expected), "{expected} is not in {reported}");
    }
    assert!(reported.trim_end().ends_with("proxy.toml: 5 errors"), "{reported}");
}

// Requirements: CK08.
#[test]
fn host_without_certificate_is_an_error_unless_reachable() {
    let other = config("").replace("host = \"localhost\"", "host = \"chat.example.com\"");
    let reported = check_errors(&config_folder(&other));
    let expected = "proxy.toml:9:8: route[0].host: no certificate covers chat.example.com (the certificates \
                    are for localhost): the TLS handshake fails; add a certificate for it, or mark one \
                    `default = true`";
    assert!(reported.starts_with(expected), "{reported}");
    // A listener that only redirects leads to the same certificate.
    let redirecting = format!(
        "{other}[[listener]]\naddress = \"127.0.0.2:0\"\ntls = false\nredirect = \"https\"\n"
    );
    assert!(check_errors(&config_folder(&redirecting)).starts_with(expected));
    // Clients may accept the default certificate, or come through a listener without TLS.
    let default = other.replace("key.pem\"\n", "key.pem\"\ndefault = true\n");
    let plain = format!("{other}[[listener]]\naddress = \"127.0.0.2:0\"\ntls = false\n");
    for (text, words) in [
        (default, &["TLS clients get the default certificate and reject it"][..]),
        (
            plain,
            &[
                "the TLS handshake fails",
                "covers none of the routes' hosts; its names are localhost",
            ],
        ),
    ] {
        let output = run(&config_folder(text), &["check", "--config", "proxy.toml"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word} is not in {stderr}");
        }
    }
}

// Requirements: CK04.
#[test]
fn swapped_chain_and_key_are_named() {
    let swapped = config("").replace(
        "chain = \"chain.pem\"\nkey = \"key.pem\"",
        "chain = \"key.pem\"\nkey = \"chain.pem\"",
    );
    let reported = check_errors(&config_folder(swapped));
    let expected =
        "chain and key are swapped: key.pem is a private key, and chain.pem a certificate";
    assert!(reported.contains(expected), "{reported}");
    assert!(reported.trim_end().ends_with("proxy.toml: 1 error"), "{reported}");
}

#[test]
fn warns_about_large_rsa_keys() {
    let folder = config_folder(config(""));
    for (size, warned) in [(RsaKeySize::_2048, false), (RsaKeySize::_3072, true)] {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        folder.write("chain.pem", params.self_signed(&key).unwrap().pem());
        folder.write("key.pem", key.serialize_pem());
        let output = run(&folder, &["check", "--config", "proxy.toml"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let warning = "certificate[0].key: key.pem: an RSA key of 3072 bits";
        assert_eq!(stderr.contains(warning), warned, "{stderr}");
        assert_eq!(stderr.contains("use an ECDSA P-256 key"), warned, "{stderr}");
    }
}

/// No client can cause the handshakes with a backend.
#[test]
fn large_rsa_keys_for_backends_are_no_problem() {
    let folder = config_folder(config(
        "[[pool]]\nname = \"app\"\nbackends = [\"127.0.0.1:9001\"]\n\
         [pool.tls]\ncertificate = \"client.pem\"\nkey = \"client-key.pem\"\n\
         [[route]]\nname = \"app\"\nhost = \"localhost\"\npath = \"/app\"\norigins = [\"*\"]\npool = \"app\"\n",
    ));
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap();
    let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    folder.write("client.pem", params.self_signed(&key).unwrap().pem());
    folder.write("client-key.pem", key.serialize_pem());
    let output = run(&folder, &["check", "--config", "proxy.toml"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("RSA key"), "{stderr}");
}
