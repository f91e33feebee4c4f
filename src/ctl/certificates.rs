//! `ctl certs` and `ctl renew`.

use super::format::age;
use super::output::{CommandFailure, Output};
use super::table::{Align, TextTable, sanitize};
use crate::control_protocol::ControlRequest;
use crate::control_protocol::certificates::{CertificateList, CertificateRow, OrderRequested};

/// Prints a table of all certificates, and what failed.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn list(output: &Output) -> Result<(), CommandFailure> {
    output.print(&ControlRequest::Certs, |list: CertificateList| {
        let mut table = TextTable::new(&[
            ("NAMES", Align::Left),
            ("SOURCE", Align::Left),
            ("EXPIRES", Align::Left),
            ("NEXT ORDER", Align::Left),
            ("FAILED", Align::Right),
        ]);
        let mut errors = String::new();
        for row in &list.certificates {
            let names = row.names.join(", ");
            if let Some(error) = &row.last_error {
                let ago = since(list.now, error.at);
                let (names, text) = (sanitize(&names), sanitize(&error.text));
                errors += &format!("{names}: failed {ago} ago: {text}\n");
            }
            table.push([
                if names.is_empty() { "-".to_owned() } else { names },
                row.source.clone(),
                expiry(row, list.now),
                next_order(row, list.now),
                row.failures.to_string(),
            ]);
        }
        output.table(&table, "no certificates") + &errors
    })
}

/// Asks for an order now.
///
/// # Errors
///
/// As for [`Output::print`].
pub fn renew(output: &Output, name: String) -> Result<(), CommandFailure> {
    output.print(&ControlRequest::Renew { name }, |requested: OrderRequested| {
        let names = sanitize(&requested.names.join(", "));
        format!("ordering a certificate for {names}; `tidegate ctl certs` shows the result\n")
    })
}

fn expiry(row: &CertificateRow, now: f64) -> String {
    match row.not_after {
        None => "not issued".to_owned(),
        Some(at) if at as f64 <= now => "EXPIRED".to_owned(),
        Some(at) => format!("in {}", until(now, at)),
    }
}

fn next_order(row: &CertificateRow, now: f64) -> String {
    match row.next_order {
        _ if row.ordering => "in progress".to_owned(),
        None => "-".to_owned(),
        Some(at) if at as f64 <= now => "now".to_owned(),
        Some(at) => format!("in {}", until(now, at)),
    }
}

fn until(now: f64, at: u64) -> String {
    age(((at as f64 - now).max(0.0) * 1000.0) as u64)
}

fn since(now: f64, at: u64) -> String {
    age(((now - at as f64).max(0.0) * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_from_now() {
        let row = CertificateRow { not_after: Some(3600), ..CertificateRow::default() };
        assert_eq!((expiry(&row, 0.0), next_order(&row, 0.0)), ("in 1h00m".into(), "-".into()));
        assert_eq!(expiry(&row, 3600.0), "EXPIRED");
        let row = CertificateRow { next_order: Some(60), ..CertificateRow::default() };
        assert_eq!(
            (expiry(&row, 0.0), next_order(&row, 61.0)),
            ("not issued".into(), "now".into())
        );
        let row = CertificateRow { ordering: true, ..row };
        assert_eq!(next_order(&row, 0.0), "in progress");
    }
}
