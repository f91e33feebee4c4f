//! Cookies of a request (RFC 6265 5.4).

use hyper::HeaderMap;
use hyper::header::COOKIE;

/// The values of all cookies with this name, in the order of the request: a browser sends the one with the
/// longest path first. Names are case-sensitive; values are as sent.
pub fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cookies: &[&str], name: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        cookies.iter().for_each(|line| {
            headers.append(COOKIE, line.parse().unwrap());
        });
        values(&headers, name).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    #[test]
    fn values_are_found_in_order() {
        assert_eq!(found(&["a=1; sid=x; b=2", "sid=y=;sid="], "sid"), ["x", "y=", ""]);
        assert_eq!(found(&["xsid=1; Sid=2; sid; sid =3"], "sid"), [""; 0]);
        assert_eq!(found(&[], "sid"), [""; 0]);
    }
}
