//! The local ports from which connections of this machine come (ip(7)).

use std::fs;

/// The number of ports in `ip_local_port_range`; `None` if it cannot be read.
pub fn range() -> Option<usize> {
    parse(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn parse(text: &str) -> Option<usize> {
    let mut bounds = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some(usize::from(last.checked_sub(first)?) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_are_ports() {
        assert_eq!(parse("32768\t60999\n"), Some(28_232));
        assert_eq!(parse("40000 40000"), Some(1));
        for text in ["", "1", "2 1", "a b", "1 70000"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
