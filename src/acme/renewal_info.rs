//! The time at which the authority suggests to renew a certificate (ARI, RFC 9773).

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rustls::sign::CertifiedKey;

use super::client::get;
use super::failure::AcmeFailure;
use super::protocol::{Directory, RenewalInfo, one_line};
use super::record::RenewalWindow;
use super::transport::AcmeTransport;
use crate::tls::certs::extensions::leaf_extensions;

/// The identifier of a certificate (RFC 9773 4.1); `None` if it does not name the key of its issuer.
pub fn certificate_id(key: &CertifiedKey) -> Option<String> {
    let leaf = leaf_extensions(&key.cert)?;
    let issuer = BASE64URL_NOPAD.encode(leaf.issuer_key?);
    Some(format!("{issuer}.{}", BASE64URL_NOPAD.encode(leaf.serial)))
}

/// Asks for the suggestion for a certificate, and how long it holds. There is none if the authority makes no
/// suggestions.
///
/// # Errors
/// The authority cannot be reached, or its response is not valid.
pub async fn renewal_window(
    transport: &AcmeTransport,
    directory: &str,
    certificate: &str,
) -> Result<(Option<RenewalWindow>, Duration), AcmeFailure> {
    let directory = get::<Directory>(transport, directory).await?.document;
    let Some(base) = directory.renewal_info else { return Ok((None, DEFAULT_INTERVAL)) };
    let url = format!("{}/{certificate}", base.trim_end_matches('/'));
    let received = get::<RenewalInfo>(transport, &url).await?;
    let RenewalInfo { suggested_window: window, explanation_url } = received.document;
    let (Some(start), Some(end)) = (seconds(&window.start), seconds(&window.end)) else {
        let window = one_line(&format!("{} to {}", window.start, window.end));
        return Err(AcmeFailure::directory(format!("{url}: {window} is not a span of time")));
    };
    let explanation = explanation_url.map(|url| one_line(&url));
    let interval = received.retry_after.unwrap_or(DEFAULT_INTERVAL);
    // RFC 9773 4.3: a client sets reasonable limits.
    let interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
    Ok((Some(RenewalWindow { start, end, explanation }), interval))
}

/// Seconds since 1970 of a time in RFC 3339; fractions are cut off.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let mut parts = text.split(separator).map(|part| {
            let is_number = part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        });
        Some([parts.next()??, parts.next()??, parts.next()??]).filter(|_| parts.next().is_none())
    };
    let [year, month, day] = numbers(date, '-')?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let clock = clock.split_once('.').map_or(clock, |(clock, _)| clock);
    let [hour, minute, second] = numbers(clock, ':')?;
    let is_valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes, _] = numbers(&format!("{offset}:0"), ':')?;
            let seconds = (hours * 60 + minutes) * 60;
            if sign == "-" { -seconds } else { seconds }
        }
    };
    // Days since 1970-01-01 in the Gregorian calendar, of years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - offset;
    u64::try_from(seconds).ok().filter(|_| is_valid)
}

/// How often to ask if the authority does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const INTERVAL_MIN: Duration = Duration::from_secs(60);
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2024-02-29T00:00:00.999999999Z", 1_709_164_800),
            ("2021-01-03T00:00:00+01:30", 1_609_626_600),
            ("2020-12-31T23:00:00-01:00", 1_609_459_200),
            ("2100-03-01t00:00:00z", 4_107_542_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "2024-02-29",
            "2024-02-29T00:00:00",
            "2024-13-01T00:00:00Z",
            "2024-02-01T24:00:00Z",
            "2024-02-01T00:00:00ZZ",
            "+2024-02-01T00:00:00Z",
            "2024-02-01T-1:00:00Z",
            "1969-12-31T23:59:59Z",
            "99999999999999999999-01-01T00:00:00Z",
            "2024-02-01T00:00:00+99999999999999999:0",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
