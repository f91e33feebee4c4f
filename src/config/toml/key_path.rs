//! Key paths such as `route[3].limits.idle`.

/// Appends a key to the path of its table.
pub(crate) fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// Removes list indices: `route[3].limits` becomes `route[].limits`.
pub(crate) fn without_indices(key: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let parts: Vec<&str> = key.split('[').map(|part| part.trim_start_matches(digit)).collect();
    parts.join("[")
}

/// The header of a table in TOML: `[route.limits]` for `route[].limits`, `[[route]]` for `route[]`.
pub(crate) fn header(table: &str) -> String {
    let name = table.replace("[]", "");
    if table.ends_with("[]") { format!("[[{name}]]") } else { format!("[{name}]") }
}
