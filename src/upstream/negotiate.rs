//! What a backend may choose from what the client offered: extensions (RFC 6455 9.1, RFC 7692)
//! and the subprotocol (RFC 6455 4.1).

use hyper::HeaderMap;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::config::settings::Compression;
use crate::http::extension::Extension;

/// What is offered to a backend of what a client offers.
pub fn offers(offered: &[Extension], compression: Compression) -> Vec<Extension> {
    let passes = |extension: &&Extension| match compression {
        Compression::Strip => false,
        // Beneath an extension that nobody here knows, there would be nothing to look into.
        Compression::Inspect => extension.is_deflate(),
        Compression::Pass => true,
    };
    offered.iter().filter(passes).cloned().collect()
}

/// Checks the backend's extensions against the offer; what it chose.
pub fn read_extensions(
    headers: &HeaderMap,
    offered: &[Extension],
) -> Result<Vec<Extension>, &'static str> {
    let chosen = Extension::read_all(headers)?;
    for (at, extension) in chosen.iter().enumerate() {
        if chosen[..at].iter().any(|before| before.name == extension.name) {
            return Err("an extension chosen twice");
        }
        let mut offers = offered.iter().filter(|offer| offer.name == extension.name).peekable();
        if offers.peek().is_none() {
            return Err("an extension that was not offered");
        }
        if extension.is_deflate() && !offers.any(|offer| fits(extension, offer)) {
            return Err("compression on terms that were not offered");
        }
    }
    Ok(chosen)
}

/// Has the client begin each message with an empty window, which a server may demand of any client
/// that compresses (RFC 7692 7.1.1.2), and which a backend that would have kept one never notices.
pub fn without_client_takeover(mut chosen: Vec<Extension>) -> Vec<Extension> {
    for extension in chosen.iter_mut().filter(|extension| extension.is_deflate()) {
        if extension.param(CLIENT_NO_TAKEOVER).is_none() {
            extension.params.push((CLIENT_NO_TAKEOVER.to_owned(), None));
        }
    }
    chosen
}

/// As one line of `Sec-WebSocket-Extensions`; `None` if there are none.
pub fn line(extensions: &[Extension]) -> Option<HeaderValue> {
    let members: Vec<String> = extensions.iter().map(Extension::to_string).collect();
    HeaderValue::from_str(&members.join(", ")).ok().filter(|line| !line.is_empty())
}

/// Whether an answer is a lawful one to this offer of compression (RFC 7692 7.1).
fn fits(answer: &Extension, offer: &Extension) -> bool {
    let lawful = answer.params.iter().enumerate().all(|(at, (name, value))| {
        let first = answer.params[..at].iter().all(|(before, _)| before != name);
        first
            && match name.as_str() {
                "server_no_context_takeover" | CLIENT_NO_TAKEOVER => value.is_none(),
                "server_max_window_bits" | "client_max_window_bits" => {
                    value.as_deref().and_then(window_bits).is_some()
                }
                _ => false,
            }
    });
    let bits = |extension: &Extension, name| extension.param(name).flatten().and_then(window_bits);
    let no_wider = |name| match (bits(answer, name), bits(offer, name)) {
        (Some(answered), Some(offered)) => answered <= offered,
        (Some(_) | None, None) | (None, Some(_)) => true,
    };
    // 7.1.1.1 and 7.1.2.1: what the client demands of the server must be in the answer.
    let demanded = ["server_no_context_takeover", "server_max_window_bits"];
    let met =
        demanded.iter().all(|name| offer.param(name).is_none() || answer.param(name).is_some());
    // 7.1.2.2: the client's window is not the server's to narrow unless the client said so.
    let window = "client_max_window_bits";
    let allowed = answer.param(window).is_none() || offer.param(window).is_some();
    lawful && met && allowed && no_wider("server_max_window_bits") && no_wider(window)
}

/// 8 to 15, in decimal without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let bits = text.parse().ok().filter(|bits| (8..=15).contains(bits));
    bits.filter(|_| !text.starts_with(['0', '+']))
}

/// Checks the backend's subprotocol: at most one, on one line, and one that was offered.
pub fn read_subprotocol(
    headers: &HeaderMap,
    offered: &[String],
) -> Result<Option<String>, &'static str> {
    let mut lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(chosen), None) => {
            let found = offered.iter().find(|offer| offer.as_bytes() == chosen.as_bytes());
            found.cloned().map(Some).ok_or("a subprotocol that was not offered")
        }
        (Some(_), Some(_)) => Err("two subprotocols"),
    }
}

const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";

#[cfg(test)]
mod tests {
    use hyper::header::SEC_WEBSOCKET_EXTENSIONS;

    use super::*;

    fn headers(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(SEC_WEBSOCKET_EXTENSIONS, line.parse().unwrap())])
    }

    fn choose(offer: &str, answer: &str) -> Result<bool, &'static str> {
        let offered = Extension::read_all(&headers(offer)).unwrap();
        let chosen = read_extensions(&headers(answer), &offered)?;
        Ok(chosen.iter().any(Extension::is_deflate))
    }

    #[test]
    fn a_client_is_told_to_begin_anew_with_each_message() {
        for (answer, told) in [
            ("permessage-deflate", "permessage-deflate; client_no_context_takeover"),
            (
                "Permessage-Deflate; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            (
                "permessage-deflate; server_max_window_bits=\"10\"",
                "permessage-deflate; server_max_window_bits=10; client_no_context_takeover",
            ),
        ] {
            let chosen = Extension::read_all(&headers(answer)).unwrap();
            assert_eq!(line(&without_client_takeover(chosen)).unwrap(), told);
        }
        assert_eq!(line(&without_client_takeover(Vec::new())), None);
    }

    #[test]
    fn only_what_can_be_looked_into_is_offered() {
        let offered = headers("x-other; a=1, permessage-deflate; client_max_window_bits, x-more");
        let offered = Extension::read_all(&offered).unwrap();
        let offered = |compression| line(&offers(&offered, compression));
        assert_eq!(offered(Compression::Strip), None);
        let deflate = "permessage-deflate; client_max_window_bits";
        assert_eq!(offered(Compression::Inspect).unwrap(), deflate);
        let all = format!("x-other; a=1, {deflate}, x-more");
        assert_eq!(offered(Compression::Pass).unwrap(), all.as_str());
    }

    #[test]
    fn compression_is_accepted_on_lawful_terms() {
        let browser = "permessage-deflate; client_max_window_bits";
        for answer in [
            "permessage-deflate",
            "Permessage-Deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=15; server_max_window_bits=\"10\"",
        ] {
            assert_eq!(choose(browser, answer), Ok(true), "{answer}");
        }
        assert_eq!(choose("x-other; a=1", "x-other; b"), Ok(false));
        assert_eq!(choose("x-other, permessage-deflate", "permessage-deflate, x-other"), Ok(true));
    }

    // Requirements: BM11.
    #[test]
    fn rejects_compression_parameters_that_were_not_offered() {
        let browser = "permessage-deflate; client_max_window_bits";
        for answer in [
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
            assert!(choose(browser, answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn compression_answers_one_of_several_offers() {
        let strict = "permessage-deflate; server_max_window_bits=10; server_no_context_takeover";
        let good = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9";
        assert_eq!(choose(strict, good), Ok(true));
        for answer in [
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; \
             client_max_window_bits=9",
        ] {
            assert!(choose(strict, answer).is_err(), "{answer}");
            let with_fallback = format!("{strict}, permessage-deflate; client_max_window_bits");
            assert_eq!(choose(&with_fallback, answer), Ok(true), "{answer}");
        }
        let narrow = "permessage-deflate; client_max_window_bits=10";
        assert!(choose(narrow, "permessage-deflate; client_max_window_bits=11").is_err());
    }

    // Requirements: W8, BM10.
    #[test]
    fn rejects_extensions_that_were_not_offered() {
        assert!(choose("x-a", "x-b").is_err());
        assert!(choose("x-a", "x-a, x-b").is_err());
        assert!(choose("x-a", "x-a;").is_err());
        assert!(read_extensions(&headers("permessage-deflate"), &[]).is_err());
        assert_eq!(read_extensions(&HeaderMap::new(), &[]), Ok(Vec::new()));
    }

    // Requirements: W9, W10, BM10.
    #[test]
    fn subprotocol_must_be_one_of_those_offered() {
        let choose = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap()));
            read_subprotocol(&lines.collect(), &["chat".to_owned(), "v2".to_owned()])
        };
        assert_eq!(choose(&[]), Ok(None));
        assert_eq!(choose(&["v2"]), Ok(Some("v2".to_owned())));
        for lines in [&["v3"][..], &["Chat"], &["chat, v2"], &["chat", "v2"], &[""]] {
            assert!(choose(lines).is_err(), "{lines:?}");
        }
    }
}
