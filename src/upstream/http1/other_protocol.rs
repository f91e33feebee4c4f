//! Recognises what a backend speaks that does not answer in HTTP/1.1.

/// What is wrong with a backend that answered a request with these bytes, if they begin another protocol.
pub(super) fn other_protocol(received: &[u8]) -> Option<&'static str> {
    match received {
        // The header of a record with an alert or a handshake message (RFC 8446 5.1).
        [0x15 | 0x16, 3, 0..=4, ..] => {
            Some("the backend answered with TLS; put it into a [[pool]] with tls = true")
        }
        // A SETTINGS frame of stream 0, with which every HTTP/2 server begins (RFC 9113 3.4 and 6.5).
        [0, _, _, 4, 0, 0, 0, 0, 0, ..] => {
            Some("the backend answered with HTTP/2; let it accept HTTP/1.1 on this port or another")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        let found =
            |bytes: &[u8]| other_protocol(bytes).map(|text| text.split(';').next().unwrap());
        // A fatal alert, protocol_version.
        assert_eq!(found(b"\x15\x03\x01\0\x02\x02\x46"), Some("the backend answered with TLS"));
        // SETTINGS with one parameter.
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        assert_eq!(found(settings), Some("the backend answered with HTTP/2"));
        for other in [&b""[..], b"\x15", b"HTTP/1.1 200", b"SSH-2.0-x", &settings[..8]] {
            assert_eq!(found(other), None, "{other:?}");
        }
    }
}
