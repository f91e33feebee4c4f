//! Numbers and addresses in ASCII, appended to a buffer. Records and forwarded headers contain many of them,
//! and the standard formatter takes ten times as many instructions.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Appends a number in decimal.
pub fn push_decimal(bytes: &mut Vec<u8>, number: u64) {
    let (mut digits, mut start, mut rest) = ([0; DIGITS_MAX], DIGITS_MAX, number);
    loop {
        start -= 1;
        digits[start] = ascii(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&digits[start..]);
}

/// Appends the last `WIDTH` decimal digits of a number, with leading zeros.
pub fn push_digits<const WIDTH: usize>(bytes: &mut Vec<u8>, number: u64) {
    let (mut digits, mut rest) = ([b'0'; WIDTH], number);
    for digit in digits.iter_mut().rev() {
        *digit = ascii(rest);
        rest /= 10;
    }
    bytes.extend_from_slice(&digits);
}

/// Appends an IP address.
pub fn push_ip(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            // Together, because each piece that is appended checks the space for it.
            let (mut text, mut len) = ([b'.'; IPV4_BYTES_MAX], 0);
            for octet in v4.octets() {
                for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
                    if octet >= least {
                        text[len] = b'0' + digit;
                        len += 1;
                    }
                }
                // The dot, which is there already.
                len += 1;
            }
            bytes.extend_from_slice(&text[..len - 1]);
        }
        // Writing to memory cannot fail.
        IpAddr::V6(v6) => drop(write!(bytes, "{v6}")),
    }
}

/// Appends an address and its port.
pub fn push_socket(bytes: &mut Vec<u8>, addr: SocketAddr) {
    match addr {
        SocketAddr::V4(v4) => {
            push_ip(bytes, (*v4.ip()).into());
            bytes.push(b':');
            push_decimal(bytes, v4.port().into());
        }
        // Writing to memory cannot fail.
        SocketAddr::V6(v6) => drop(write!(bytes, "{v6}")),
    }
}

/// The last decimal digit of a number.
fn ascii(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

/// Bytes of the longest IPv4 address.
const IPV4_BYTES_MAX: usize = "255.255.255.255".len();
/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        push(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn everything_equals_the_standard_format(
            number in any::<u64>(),
            shift in 0..64_u32,
            v4 in any::<u32>(),
            v6 in any::<u128>(),
            port in any::<u16>(),
        ) {
            let number = number >> shift;
            prop_assert_eq!(written(|to| push_decimal(to, number)), number.to_string());
            let last = format!("{:03}", number % 1000);
            prop_assert_eq!(written(|to| push_digits::<3>(to, number)), last);
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                prop_assert_eq!(written(|to| push_ip(to, ip)), ip.to_string());
                let addr = SocketAddr::new(ip, port);
                prop_assert_eq!(written(|to| push_socket(to, addr)), addr.to_string());
            }
        }
    }

    #[test]
    fn numbers_at_the_bounds_are_complete() {
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(written(|to| push_decimal(to, number)), number.to_string());
        }
    }
}
