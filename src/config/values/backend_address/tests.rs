use proptest::prelude::*;

use super::*;

#[test]
fn backends_are_normalised() {
    for (text, host, port) in [
        ("127.0.0.1:9001", "127.0.0.1", 9001),
        ("App.Internal:65535", "app.internal", 65535),
        // The dot excludes search domains.
        ("App.Internal.:1", "app.internal.", 1),
        ("[::0:1]:1", "::1", 1),
    ] {
        let address = BackendAddress::parse(text).unwrap();
        assert_eq!(address, BackendAddress::Tcp { host: host.to_owned(), port });
    }
    assert_eq!(BackendAddress::parse("[::1]:1").unwrap().to_string(), "[::1]:1");
}

// Requirements: CF11.
#[test]
fn rejects_invalid_backend_addresses() {
    for (text, expected) in [
        ("127.0.0.1", "\"127.0.0.1\" has no port (write \"127.0.0.1:9001\" if the port is 9001)"),
        ("[::1]", "\"[::1]\" has no port (write \"[::1]:9001\" if the port is 9001)"),
        ("[app]:1", "only an IPv6 address is written in brackets (write \"app:1\")"),
        (
            "2001:db8:1:2:3:4:5:6:80",
            "an IPv6 address must be in brackets (write \
          \"[2001:db8:1:2:3:4:5:6]:80\")",
        ),
        ("app:+1", "\"+1\" is not a port (ports are 1 to 65535)"),
        ("app:65536", "\"65536\" is not a port (ports are 1 to 65535)"),
        (":80", "the host is empty"),
        ("http://app", "a backend is only a host and a port (write \"app:80\")"),
    ] {
        assert_eq!(BackendAddress::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn unix_sockets_have_absolute_paths() {
    let address = BackendAddress::parse("unix:/run/app.sock").unwrap();
    assert_eq!(address, BackendAddress::Unix(Path::new("/run/app.sock").into()));
    assert_eq!(address.to_string(), "unix:/run/app.sock");
    let absolute = "the path of a Unix socket is absolute, with one slash at its start";
    let unprefixed = "the address of a Unix socket begins with unix:";
    let long = format!("unix:/{}", "x".repeat(107));
    for (text, expected) in [
        ("unix:run/app.sock", format!("{absolute} (write \"unix:/run/app.sock\")")),
        ("unix:///run/app.sock", format!("{absolute} (write \"unix:/run/app.sock\")")),
        ("/run/app.sock", format!("{unprefixed} (write \"unix:/run/app.sock\")")),
        ("unix@/run/app.sock", format!("{unprefixed} (write \"unix:/run/app.sock\")")),
        (
            "unix:@app",
            "abstract Unix sockets are not supported (let the application listen on a path: \
             \"unix:/run/app.sock\")"
                .to_owned(),
        ),
        (
            "unix:/run/",
            "\"/run/\" cannot be the path of a Unix socket (it has at most 107 bytes and is the path of \
             a file)"
                .to_owned(),
        ),
    ] {
        assert_eq!(BackendAddress::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert!(BackendAddress::parse(&long).is_err());
    assert!(BackendAddress::parse(&long[..long.len() - 1]).is_ok());
}

proptest! {
    #[test]
    fn display_and_parse_round_trip(text in "(unix:/?)?[a-z0-9.:/\\[\\]-]{1,16}(:[0-9]{1,5})?") {
        if let Ok(address) = BackendAddress::parse(&text) {
            prop_assert_eq!(BackendAddress::parse(&address.to_string()).unwrap(), address);
        }
    }

    #[test]
    fn parsing_never_panics(text in "(unix:)?\\PC{0,12}|[/*.:@\\[\\]?#]{0,8}") {
        let _ = BackendAddress::parse(&text);
    }
}
