//! Negotiation of extensions (RFC 6455 9.1, RFC 7692) and of the subprotocol (RFC 6455 4.1): the
//! offer sent to a backend, and the validity of its selection.

use hyper::HeaderMap;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use ws::{DeflateMode, PerSide};

use ws::Strictness;

use crate::config::settings::Compression;
use crate::http::extension::Extension;
use crate::http::fields::single_value;

/// The client's extension offers that are forwarded to a backend.
pub fn allowed_offers(offered: &[Extension], compression: Compression) -> Vec<Extension> {
    let is_allowed = |extension: &&Extension| match compression {
        Compression::Strip => false,
        // The reserved bits of an unknown extension would end the tunnel at the first frame that has them.
        Compression::Inspect | Compression::Pass => extension.is_deflate(),
    };
    offered.iter().filter(is_allowed).cloned().collect()
}

/// Checks the extensions that the backend selected against the offer, and returns them.
///
/// # Errors
/// The header is malformed, names an extension twice, or contains an extension or compression parameters
/// that were not offered.
pub fn check_extensions(
    headers: &HeaderMap,
    offered: &[Extension],
) -> Result<Vec<Extension>, &'static str> {
    let selected = Extension::read_all(headers)?;
    for (index, extension) in selected.iter().enumerate() {
        if selected[..index].iter().any(|before| before.name == extension.name) {
            return Err("extension selected twice");
        }
        let mut offers = offered.iter().filter(|offer| offer.name == extension.name).peekable();
        if offers.peek().is_none() {
            return Err("extension that was not offered");
        }
        if extension.is_deflate() && !offers.any(|offer| is_valid_response(extension, offer)) {
            return Err("compression parameters that are invalid or were not offered");
        }
    }
    Ok(selected)
}

/// How the session handles compressed messages with the extensions that the backend selected.
pub fn deflate_mode(selected: &[Extension], compression: Compression) -> DeflateMode {
    let Some(deflate) = selected.iter().find(|extension| extension.is_deflate()) else {
        return DeflateMode::Off;
    };
    match compression {
        Compression::Strip => DeflateMode::Off,
        Compression::Pass => DeflateMode::Pass,
        Compression::Inspect => DeflateMode::Inspect {
            context_takeover: PerSide {
                client: deflate.param(CLIENT_NO_TAKEOVER).is_none(),
                backend: deflate.param(SERVER_NO_TAKEOVER).is_none(),
            },
        },
    }
}

/// The value of `Sec-WebSocket-Extensions`; `None` without extensions.
pub fn header_value(extensions: &[Extension]) -> Option<HeaderValue> {
    let members: Vec<String> = extensions.iter().map(Extension::to_string).collect();
    HeaderValue::from_str(&members.join(", ")).ok().filter(|value| !value.is_empty())
}

/// Whether a response is valid for this offer of permessage-deflate (RFC 7692 7.1). What the client requires
/// of the server may be missing, as from aiohttp and Tornado: the client judges that (7.1.1.1, 7.1.2.1), and here
/// nothing depends on it.
fn is_valid_response(response: &Extension, offer: &Extension) -> bool {
    let is_well_formed = response.params.iter().enumerate().all(|(index, (name, value))| {
        let is_first = response.params[..index].iter().all(|(before, _)| before != name);
        is_first
            && match name.as_str() {
                SERVER_NO_TAKEOVER | CLIENT_NO_TAKEOVER => value.is_none(),
                "server_max_window_bits" | "client_max_window_bits" => {
                    value.as_deref().and_then(window_bits).is_some()
                }
                _ => false,
            }
    });
    let bits = |extension: &Extension, name| extension.param(name).flatten().and_then(window_bits);
    let is_no_wider = |name| match (bits(response, name), bits(offer, name)) {
        (Some(selected), Some(offered)) => selected <= offered,
        (Some(_) | None, None) | (None, Some(_)) => true,
    };
    // 7.1.2.2: the server may limit the client's window only if the client offered this.
    let window = "client_max_window_bits";
    let is_window_allowed = response.param(window).is_none() || offer.param(window).is_some();
    is_well_formed
        && is_window_allowed
        && is_no_wider("server_max_window_bits")
        && is_no_wider(window)
}

/// 8 to 15, in decimal without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let bits = text.parse().ok().filter(|bits| (8..=15).contains(bits));
    bits.filter(|_| !text.starts_with(['0', '+']))
}

/// How a route checks what a backend selects.
#[derive(Clone, Copy, Debug)]
pub struct NegotiationPolicy {
    /// How offers of permessage-deflate are handled.
    pub compression: Compression,
    /// Whether a subprotocol that was not offered is an error or reported.
    pub strict: Strictness,
}

/// The subprotocol that a backend selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedSubprotocol {
    /// Its name; if it was not offered, any text.
    pub name: String,
    /// The violation to report if it was not offered.
    pub reported: Option<&'static str>,
}

/// Checks the subprotocol that the backend selected, and returns it; an empty field selects none.
///
/// RFC 6455 4.1 lets a client fail on a subprotocol that it did not offer, and browsers do. Other
/// clients ignore it: with [`Strictness::Report`] it is passed on to them.
///
/// # Errors
/// Several different subprotocols, or with [`Strictness::Enforce`] one that was not offered.
pub fn check_subprotocol(
    headers: &HeaderMap,
    offered: &[String],
    strict: Strictness,
) -> Result<Option<SelectedSubprotocol>, &'static str> {
    let selected = single_value(headers, &SEC_WEBSOCKET_PROTOCOL, "more than one subprotocol")?;
    let Some(selected) = selected.filter(|value| !value.is_empty()) else { return Ok(None) };
    let is_offered = offered.iter().any(|offer| offer.as_bytes() == selected.as_bytes());
    let name = String::from_utf8_lossy(selected.as_bytes()).into_owned();
    match (is_offered, strict) {
        (true, _) => Ok(Some(SelectedSubprotocol { name, reported: None })),
        (false, Strictness::Report) => {
            Ok(Some(SelectedSubprotocol { name, reported: Some(NOT_OFFERED) }))
        }
        (false, Strictness::Enforce) => Err(NOT_OFFERED),
    }
}

const NOT_OFFERED: &str =
    "subprotocol that was not offered; route.strict = \"report\" would pass it on";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";

#[cfg(test)]
mod tests {
    use hyper::header::SEC_WEBSOCKET_EXTENSIONS;

    use super::*;

    fn headers(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, line.parse().unwrap())])
    }

    fn select(offer: &str, response: &str) -> Result<bool, &'static str> {
        let offered = Extension::read_all(&headers(offer)).unwrap();
        let selected = check_extensions(&headers(response), &offered)?;
        Ok(selected.iter().any(Extension::is_deflate))
    }

    #[test]
    fn context_takeover_is_what_the_backend_selected() {
        for (response, client, backend) in [
            ("permessage-deflate", true, true),
            ("x-other, permessage-deflate; server_max_window_bits=10", true, true),
            ("Permessage-Deflate; client_no_context_takeover", false, true),
            ("permessage-deflate; server_no_context_takeover", true, false),
            (
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
                false,
                false,
            ),
        ] {
            let selected = Extension::read_all(&headers(response)).unwrap();
            let mode = |compression| deflate_mode(&selected, compression);
            let context_takeover = PerSide { client, backend };
            assert_eq!(mode(Compression::Inspect), DeflateMode::Inspect { context_takeover });
            assert_eq!(mode(Compression::Pass), DeflateMode::Pass);
        }
        let other = Extension::read_all(&headers("x-other")).unwrap();
        for compression in [Compression::Inspect, Compression::Pass, Compression::Strip] {
            assert_eq!(deflate_mode(&[], compression), DeflateMode::Off);
            assert_eq!(deflate_mode(&other, compression), DeflateMode::Off);
        }
    }

    #[test]
    fn only_deflate_is_offered() {
        let offered = headers("x-other; a=1, permessage-deflate; client_max_window_bits, x-more");
        let offered = Extension::read_all(&offered).unwrap();
        let offered = |compression| header_value(&allowed_offers(&offered, compression));
        assert_eq!(offered(Compression::Strip), None);
        let deflate = "permessage-deflate; client_max_window_bits";
        assert_eq!(offered(Compression::Inspect).unwrap(), deflate);
        assert_eq!(offered(Compression::Pass).unwrap(), deflate);
    }

    #[test]
    fn accepts_valid_compression_parameters() {
        let browser = "permessage-deflate; client_max_window_bits";
        for response in [
            "permessage-deflate",
            "Permessage-Deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=15; server_max_window_bits=\"10\"",
        ] {
            assert_eq!(select(browser, response), Ok(true), "{response}");
        }
        assert_eq!(select("x-other; a=1", "x-other; b"), Ok(false));
        assert_eq!(select("x-other, permessage-deflate", "permessage-deflate, x-other"), Ok(true));
    }

    // Requirements: BM11.
    #[test]
    fn rejects_compression_parameters_that_were_not_offered() {
        let browser = "permessage-deflate; client_max_window_bits";
        for response in [
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=abc",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; unknown",
            "permessage-deflate, permessage-deflate",
        ] {
            assert!(select(browser, response).is_err(), "{response}");
        }
    }

    #[test]
    fn compression_matches_one_of_several_offers() {
        let strict = "permessage-deflate; server_max_window_bits=10; server_no_context_takeover";
        for response in [
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate",
        ] {
            assert_eq!(select(strict, response), Ok(true), "{response}");
        }
        for response in [
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=11",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; \
             client_max_window_bits=9",
        ] {
            assert!(select(strict, response).is_err(), "{response}");
            let with_fallback = format!("{strict}, permessage-deflate; client_max_window_bits");
            assert_eq!(select(&with_fallback, response), Ok(true), "{response}");
        }
        let narrow = "permessage-deflate; client_max_window_bits=10";
        assert!(select(narrow, "permessage-deflate; client_max_window_bits=11").is_err());
    }

    // Requirements: W8, BM10.
    #[test]
    fn rejects_extensions_that_were_not_offered() {
        assert!(select("x-a", "x-b").is_err());
        assert!(select("x-a", "x-a, x-b").is_err());
        assert!(select("x-a", "x-a;").is_err());
        assert!(check_extensions(&headers("permessage-deflate"), &[]).is_err());
        assert_eq!(check_extensions(&HeaderMap::new(), &[]), Ok(Vec::new()));
    }

    // Requirements: W9, W10, BM10.
    #[test]
    fn subprotocol_must_be_one_of_those_offered() {
        let select = |lines: &[&str], strict| {
            let lines = lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap()));
            let offered = ["chat".to_owned(), "v2".to_owned()];
            let selected = check_subprotocol(&lines.collect(), &offered, strict)?;
            Ok::<_, &str>(selected.map(|selected| (selected.name, selected.reported.is_some())))
        };
        for strict in [Strictness::Enforce, Strictness::Report] {
            for lines in [&[][..], &[""], &["", ""]] {
                assert_eq!(select(lines, strict), Ok(None), "{lines:?}");
            }
            for lines in [&["v2"][..], &["v2", "v2"]] {
                assert_eq!(select(lines, strict), Ok(Some(("v2".to_owned(), false))), "{lines:?}");
            }
            for lines in [&["chat", "v2"][..], &["", "v2"]] {
                assert!(select(lines, strict).is_err(), "{lines:?}");
            }
        }
        for line in ["v3", "Chat", "chat, v2"] {
            assert_eq!(select(&[line], Strictness::Enforce), Err(NOT_OFFERED));
            let passed = Some((line.to_owned(), true));
            assert_eq!(select(&[line], Strictness::Report), Ok(passed));
        }
    }
}
