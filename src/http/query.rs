//! Parameters of a query.

/// The value of the first parameter with this name, as sent. Names are case-sensitive and compared without
/// decoding.
pub fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    values.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_parameter_of_a_name_is_found() {
        assert_eq!(parameter("a=1&room=x%20y&room=z", "room"), Some("x%20y"));
        assert_eq!(parameter("room=", "room"), Some(""));
        for query in ["", "room", "rooms=1", "Room=1", "aroom=1"] {
            assert_eq!(parameter(query, "room"), None, "{query}");
        }
    }
}
