//! The ways in which servers and frameworks change a path before they look up what it names.
//! `interop/readings.py` asks some of them what they make of a path.

/// One change that some server makes.
struct ReadingStep {
    /// Completes "servers that do this: ...".
    name: &'static str,
    /// The changed path; `None` if the step does not apply to it.
    apply: fn(&str) -> Option<String>,
}

const STEPS: [ReadingStep; 15] = [
    ReadingStep {
        name: "decoding letters and dots",
        apply: |path| decode(path, Decoding::Unreserved),
    },
    ReadingStep { name: "decoding %XX", apply: |path| decode(path, Decoding::All) },
    ReadingStep {
        name: "decoding %uXXXX or overlong UTF-8",
        apply: |path| decode(path, Decoding::Lenient),
    },
    ReadingStep {
        name: "removing dot segments",
        apply: |path| path.contains("/.").then(|| remove_dot_segments(path)),
    },
    ReadingStep {
        name: "merging slashes",
        apply: |path| path.contains("//").then(|| merge_slashes(path)),
    },
    ReadingStep { name: "merging slashes at the start", apply: merge_first_slashes },
    ReadingStep {
        name: "removing a host after //",
        apply: |path| path.strip_prefix("//").map(after_host),
    },
    ReadingStep { name: "removing a host after all slashes", apply: remove_host_after_slashes },
    ReadingStep {
        name: "removing ;parameters",
        apply: |path| path.contains(';').then(|| remove_parameters(path)),
    },
    ReadingStep { name: "ending at ;", apply: |path| end_at(path, &[';']) },
    ReadingStep { name: "ending at ?, # or NUL", apply: |path| end_at(path, &['?', '#', '\0']) },
    ReadingStep {
        name: "replacing \\ by /",
        apply: |path| path.contains('\\').then(|| path.replace('\\', "/")),
    },
    ReadingStep {
        name: "removing what Windows ignores at the end of a name",
        apply: remove_windows_suffixes,
    },
    ReadingStep { name: "removing control characters", apply: remove_controls },
    ReadingStep { name: "replacing fullwidth characters", apply: replace_fullwidth },
];

/// A reading of a path.
struct Reading {
    path: String,
    /// The last step to it, and the index of the reading that it was applied to; `None` for the path as sent.
    made_by: Option<(&'static str, usize)>,
}

/// Checks every reading of a path: each step is applied to each reading, because servers take the steps in
/// different orders, and proxies behind this one add theirs.
///
/// # Errors
/// The steps to the first reading that fails the check.
pub(super) fn check_all(raw: &str, passes: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut found = vec![Reading { path: raw.to_owned(), made_by: None }];
    let mut bytes = 0;
    let mut index = 0;
    while let Some(path) = found.get(index).map(|reading| reading.path.clone()) {
        if !passes(&path) {
            return Err(steps_to(&found, index));
        }
        for step in &STEPS {
            let Some(changed) = (step.apply)(&path) else { continue };
            if found.iter().all(|reading| reading.path != changed) {
                bytes += changed.len();
                found.push(Reading { path: changed, made_by: Some((step.name, index)) });
            }
        }
        if found.len() > READINGS_MAX || bytes > BYTES_MAX {
            return Err("too many other readings to compare".to_owned());
        }
        index += 1;
    }
    Ok(())
}

fn steps_to(found: &[Reading], index: usize) -> String {
    let made_by = |index: usize| found.get(index).and_then(|reading| reading.made_by);
    let steps = std::iter::successors(made_by(index), |(_, from)| made_by(*from));
    let mut names: Vec<&str> = steps.map(|(name, _)| name).collect();
    names.reverse();
    if names.is_empty() {
        return "another one for servers that change nothing".to_owned();
    }
    format!("another one for servers that do this: {}", names.join(", then "))
}

/// Which octets are decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoding {
    /// Those that mean the same without encoding (RFC 3986 2.3).
    Unreserved,
    /// All.
    All,
    /// All, also in the forms of IIS and old servers: `%uXXXX`, and ASCII in two octets of UTF-8.
    Lenient,
}

/// Decodes once. Invalid UTF-8 in the result is replaced, as a configured path cannot contain it. `None` if
/// there is nothing to decode.
pub(super) fn decode(path: &str, decoding: Decoding) -> Option<String> {
    let mut rest = path.as_bytes();
    let marks: &[u8] = if decoding == Decoding::Lenient { b"uUcCeEfF" } else { &[] };
    let is_encoded =
        |pair: &[u8]| matches!(pair, [b'%', next] if marks.is_empty() || marks.contains(next));
    rest.windows(2).find(|pair| is_encoded(pair))?;
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let (before, from) = rest.split_at(at);
        decoded.extend_from_slice(before);
        let after = from.get(1..).unwrap_or_default();
        let (octet, character) = match after {
            [b'u' | b'U', a, b, c, d, ..] if decoding == Decoding::Lenient => {
                (None, hex(&[*a, *b, *c, *d]).and_then(char::from_u32))
            }
            [high, low, ..] => {
                (hex(&[*high, *low]).and_then(|octet| u8::try_from(octet).ok()), None)
            }
            _ => (None, None),
        };
        let is_decoded = |octet: &u8| decoding != Decoding::Unreserved || is_unreserved(*octet);
        let encoded_bytes = if let Some(octet) = octet.filter(is_decoded) {
            decoded.push(octet);
            2
        } else if let Some(character) = character {
            decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            5
        } else {
            decoded.push(b'%');
            0
        };
        rest = after.get(encoded_bytes..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
    if decoding == Decoding::Lenient {
        decoded = shorten_overlong(&decoded);
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// The number that these digits write.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// Replaces ASCII characters that take more than one octet (RFC 3629 10), also if the marker of the last
/// octet is missing.
fn shorten_overlong(bytes: &[u8]) -> Vec<u8> {
    let mut short = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let (high, low, end) = match rest {
            [high @ 0xC0..=0xC1, low, end @ ..]
            | [0xE0, high @ 0x80..=0x81, low, end @ ..]
            | [0xF0, 0x80, high @ 0x80..=0x81, low, end @ ..]
                if low & 0x40 == 0 =>
            {
                (high, low, end)
            }
            _ => {
                short.push(byte);
                rest = after;
                continue;
            }
        };
        short.push((high & 1) << 6 | low & 0x3F);
        rest = end;
    }
    short
}

/// RFC 3986 5.2.4, for an absolute path.
pub(super) fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            name => {
                kept.push(name);
                continue;
            }
        }
        // A dot segment at the end becomes a trailing slash.
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Removes empty segments, except the last.
fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    let mut ends_with_slash = false;
    for character in path.chars() {
        if character != '/' || !ends_with_slash {
            merged.push(character);
        }
        ends_with_slash = character == '/';
    }
    merged
}

fn merge_first_slashes(path: &str) -> Option<String> {
    path.starts_with("//").then(|| format!("/{}", path.trim_start_matches('/')))
}

/// What follows the host of a network-path reference (RFC 3986 4.2), for example in
/// `new URL(req.url, base)`.
fn after_host(host_and_path: &str) -> String {
    let path = host_and_path.find('/').and_then(|start| host_and_path.get(start..));
    path.unwrap_or("/").to_owned()
}

/// The URL standard lets any number of slashes precede the host.
fn remove_host_after_slashes(path: &str) -> Option<String> {
    path.starts_with("///").then(|| after_host(path.trim_start_matches('/')))
}

fn remove_parameters(path: &str) -> String {
    let names = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    names.collect::<Vec<_>>().join("/")
}

fn end_at(path: &str, marks: &[char]) -> Option<String> {
    path.split_once(marks).map(|(kept, _)| kept.to_owned())
}

fn remove_windows_suffixes(path: &str) -> Option<String> {
    let changed = path.split('/').map(windows_name).collect::<Vec<_>>().join("/");
    (changed != path).then_some(changed)
}

/// Dots and spaces at the end of a name, and the stream after it (`::$DATA`), do not change which file it
/// names.
fn windows_name(segment: &str) -> &str {
    let stream = segment.split_once(':').filter(|(_, stream)| stream.contains('$'));
    let name = stream.map_or(segment, |(name, _)| name).trim_end_matches(' ');
    if matches!(name, "." | "..") { name } else { name.trim_end_matches([' ', '.']) }
}

/// The URL standard removes tabs and line ends, and control characters and spaces at the end; a regular
/// expression that ends with `$` may match before a line end.
fn remove_controls(path: &str) -> Option<String> {
    if !path.ends_with(' ') && !path.contains(|character: char| character.is_ascii_control()) {
        return None;
    }
    let path = path.trim_end_matches(|character: char| character <= ' ');
    Some(path.chars().filter(|character| !matches!(character, '\t' | '\n' | '\r')).collect())
}

/// Windows converts these to the ASCII characters that they resemble.
fn replace_fullwidth(path: &str) -> Option<String> {
    let ascii = |character: char| match u32::from(character) {
        number @ 0xFF01..=0xFF5E => char::from_u32(number - 0xFEE0).unwrap_or(character),
        0x2044 | 0x2215 => '/',
        0x2216 => '\\',
        _ => character,
    };
    (!path.is_ascii()).then(|| path.chars().map(ascii).collect())
}

/// Maximum number of readings besides the path itself. Ordinary paths have fewer than ten.
const READINGS_MAX: usize = 96;
/// Maximum size of these readings together. They take a third of a millisecond (measured with a path of 680
/// bytes that most steps change).
const BYTES_MAX: usize = 32 * 1024;
