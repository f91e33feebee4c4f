//! Reads the configuration file into text and the text into a TOML document. The file is read once,
//! its size and nesting are bounded, and reading never waits on a pipe.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::diagnostic::{Diagnostic, Location, Problem};
use super::foreign::foreign_configuration;

/// A syntax error: its byte range, and the parser's message.
pub(crate) type SyntaxError = (Range<usize>, String);

/// Reads a regular file, at most one byte more than `size_max`.
///
/// # Errors
///
/// The file does not exist, is not a regular file, or cannot be read.
pub(crate) fn read(path: &Path, size_max: usize) -> Result<Vec<u8>, Problem> {
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Problem::new("this is a directory").help("name the file in it"));
    }
    if !metadata.is_file() {
        // Opening a pipe would block until another process opens it for writing.
        return Err(Problem::new("this is a pipe, socket or device, not a file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}

/// Decodes UTF-8 with or without a byte order mark.
///
/// # Errors
///
/// The location of the first byte that is not UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Diagnostic> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let problem = Problem::new("the file is not valid UTF-8").help("save the file as UTF-8");
        let span = at..at + '\u{fffd}'.len_utf8();
        Diagnostic::at(Location { key: String::new(), span }, problem)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Parses a document. Returns it together with the syntax errors that the parser recovered from.
///
/// # Errors
///
/// The text is too large or too deeply nested, or it is large and has a syntax error.
pub(crate) fn parse(text: &str) -> Result<(Spanned<DeTable<'_>>, Vec<SyntaxError>), Diagnostic> {
    if text.len() > SIZE_MAX {
        let problem = Problem::new(format!(
            "the file is larger than {} MiB, the maximum for a configuration file",
            SIZE_MAX >> 20
        ));
        return Err(Diagnostic::for_file(problem));
    }
    if let Some(span) = too_deep(text) {
        let problem = Problem::new(format!(
            "the file is nested deeper than {DEPTH_MAX} levels, the maximum for a configuration file"
        ));
        return Err(Diagnostic::at(Location { key: String::new(), span }, problem));
    }
    let first = match DeTable::parse(text) {
        Ok(root) => return Ok((root, Vec::new())),
        Err(error) => error,
    };
    // A large file that is not TOML at all would cause an error for every byte.
    if text.len() > RECOVERABLE_MAX {
        return Err(diagnostic(text, &syntax_error(text, &first)));
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    Ok((root, errors.iter().map(|error| syntax_error(text, error)).collect()))
}

/// Selects the errors to report. `remaining` are the syntax errors that are not part of any value
/// read, `reported` are the errors reported while reading.
pub(crate) fn select_errors(
    text: &str,
    all: &[SyntaxError],
    remaining: &[SyntaxError],
    mut reported: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    if remaining.iter().all(|(_, message)| message == DUPLICATE) {
        reported.extend(remaining.iter().map(|error| diagnostic(text, error)));
        return reported;
    }
    // The document does not have the intended structure, so other errors would be misleading. Of
    // several syntax errors in one line, only the first is useful.
    let mut all = all.to_vec();
    all.sort_by_key(|(span, message)| (span.start, !is_open_string(message)));
    drop_consequences(&mut all);
    all.dedup_by(|(later, _), (earlier, _)| {
        text.get(earlier.start..later.start).is_some_and(|between| !between.contains('\n'))
    });
    let foreign = foreign_block(text, &mut all);
    foreign.into_iter().chain(all.iter().map(|error| diagnostic(text, error))).collect()
}

/// Removes the errors that a missing quote in a list or inline table causes after it: everything that follows is
/// read as part of the list.
fn drop_consequences(errors: &mut Vec<SyntaxError>) {
    let Some(first) = errors.iter().position(|(_, message)| is_open_string(message)) else {
        return;
    };
    let is_in_list =
        |(_, message): &SyntaxError| IN_OPEN_LIST.iter().any(|start| message.starts_with(start));
    if errors[first + 1..].iter().any(is_in_list) {
        errors.truncate(first + 1);
    }
}

/// Whether the message is that of a string without its closing quote.
pub(crate) fn is_open_string(message: &str) -> bool {
    UNCLOSED.contains(&message)
}

/// Replaces the errors of lines that are no TOML at all by one for all of them, if they are in the format of
/// another program.
fn foreign_block(text: &str, errors: &mut Vec<SyntaxError>) -> Option<Diagnostic> {
    let is_toml =
        |(_, message): &SyntaxError| !NO_TOML.iter().any(|start| message.starts_with(start));
    let lines =
        errors.iter().filter(|error| !is_toml(error)).map(|(span, _)| line(text, span.start));
    let first = lines.clone().next()?;
    let problem = foreign_configuration(lines.filter_map(|span| text.get(span)))?;
    errors.retain(is_toml);
    Some(Diagnostic::at(Location { key: String::new(), span: first }, problem))
}

/// The line that contains this byte.
fn line(text: &str, at: usize) -> Range<usize> {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    start..at + after.find('\n').unwrap_or(after.len())
}

fn unreadable(error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::NotFound {
        return Problem::new("there is no such file");
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Problem::new("permission denied")
            .help("check the owner and mode of the file and of its parent directories");
    }
    Problem::new(format!("cannot read the file: {error}"))
}

/// The first position where brackets or dotted keys are nested too deep. The parser limits each of
/// them but not their product, and its document is dropped recursively.
fn too_deep(text: &str) -> Option<Range<usize>> {
    let (mut brackets, mut dots) = (0_usize, 0_usize);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                (brackets, dots) = (brackets + 1, 0);
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                (brackets, dots) = (brackets.saturating_sub(1), 0);
            }
            TokenKind::Dot => dots += 1,
            TokenKind::Equals | TokenKind::Comma | TokenKind::Newline => dots = 0,
            TokenKind::Whitespace
            | TokenKind::Comment
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString
            | TokenKind::Atom
            | TokenKind::Eof => {}
        }
        if brackets.max(dots) > DEPTH_MAX {
            return Some(token.span().start()..token.span().end());
        }
    }
    None
}

fn syntax_error(text: &str, error: &toml::de::Error) -> SyntaxError {
    (error.span().unwrap_or(text.len()..text.len()), error.message().to_owned())
}

fn diagnostic(text: &str, error: &SyntaxError) -> Diagnostic {
    let location = Location { key: String::new(), span: error.0.clone() };
    Diagnostic::at(location, syntax_problem(text, error))
}

/// Describes a syntax error: the most frequent ones in our own words, the others in the parser's.
pub(crate) fn syntax_problem(text: &str, (span, message): &SyntaxError) -> Problem {
    let raw = text.get(span.clone()).unwrap_or("");
    if let Some(control) = raw.chars().next().filter(|c| c.is_control() && *c != '\n') {
        let problem = format!("a control character, U+{:04X}", u32::from(control));
        return Problem::new(problem).help("remove it");
    }
    match message.as_str() {
        DUPLICATE => Problem::new(format!("\"{raw}\" is defined twice"))
            .help("a key may appear once in its table, and a table has one header"),
        UNQUOTED if raw.is_empty() => Problem::new("the value is missing"),
        UNQUOTED => Problem::new("text must be in double quotes").help(format!("write \"{raw}\"")),
        open if is_open_string(open) => Problem::new("the closing quote is missing"),
        other if other.starts_with(NO_COMMA) => Problem::new(other)
            .help("separate the values with commas, or close the list above with ]"),
        other => Problem::new(other.trim_end_matches(", expected nothing")),
    }
}

/// Maximum size of the file in bytes; far above any real configuration.
pub(crate) const SIZE_MAX: usize = 4 << 20;
/// Maximum size of a file for which all syntax errors are reported, not only the first.
const RECOVERABLE_MAX: usize = 256 << 10;
/// Maximum number of nested brackets, and of dots in one key. The format itself needs four.
const DEPTH_MAX: usize = 16;

// Messages of the parser. If they change, the new ones are shown as they are, and a test fails.
const DUPLICATE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted, expected literal string";
const NO_COMMA: &str = "missing comma between array elements";
/// The beginnings of those about a line without `key = value`.
const NO_TOML: [&str; 3] =
    ["key with no value", "invalid key-value pair, expected key", "invalid unquoted key"];
const UNCLOSED: [&str; 2] =
    ["invalid basic string, expected `\"`", "invalid literal string, expected `'`"];
/// The beginnings of those about what follows in a list or inline table that is not closed.
const IN_OPEN_LIST: [&str; 5] = [
    NO_COMMA,
    "missing comma between key-value pairs",
    "missing key for inline table element",
    "unclosed array",
    "unclosed inline table",
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::config::settings::Settings;
    use crate::config::toml::diagnostic::Diagnostics;

    /// A directory that is removed when the test ends.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, bytes: &[u8]) -> PathBuf {
            let path = self.0.join("proxy.toml");
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn errors(path: &Path) -> Vec<String> {
        let diagnostics: Diagnostics = Settings::load(path).expect_err("errors");
        let name = path.display().to_string();
        diagnostics.lines().map(|line| line.replacen(&name, "FILE", 1)).collect()
    }

    // Requirements: CF01.
    #[test]
    fn rejects_non_files_without_blocking() {
        let dir = TempDir::new("cf01");
        let pipe = dir.0.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let missing = dir.0.join("missing.toml");
        assert_eq!(errors(&missing), ["FILE: there is no such file"]);
        assert_eq!(errors(&dir.0), ["FILE: this is a directory (name the file in it)"]);
        let no_file = ["FILE: this is a pipe, socket or device, not a file"];
        assert_eq!(errors(&pipe), no_file);
        assert_eq!(errors(Path::new("/dev/null")), no_file);
        // A path that goes through a regular file.
        let through = dir.file(b"").join("proxy.toml");
        assert!(errors(&through)[0].starts_with("FILE: cannot read the file: "));
        let shown = Settings::load(&missing).unwrap_err().to_string();
        let name = missing.display();
        assert_eq!(shown, format!("{name}: there is no such file\n\n{name}: 1 error"));
    }

    // Requirements: CF01.
    #[test]
    fn reports_an_unreadable_file() {
        let problem = unreadable(io::ErrorKind::PermissionDenied.into());
        assert!(problem.to_string().starts_with("permission denied (check the owner"));
    }

    // Requirements: CF02.
    #[test]
    fn reports_invalid_utf8_with_its_line() {
        let dir = TempDir::new("cf02");
        let path = dir.file(b"[server]\nworkers = 1 # caf\xe9\n");
        assert_eq!(
            errors(&path),
            ["FILE:2:18: the file is not valid UTF-8 (save the file as UTF-8)"]
        );
        let shown = Settings::load(&path).unwrap_err().to_string();
        assert!(
            shown.contains(" 2 | workers = 1 # caf\u{fffd}\n   |                  ^\n"),
            "{shown}"
        );
        let utf16: Vec<u8> = "[server]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let path = dir.file(&[&b"\xff\xfe"[..], &utf16].concat());
        assert_eq!(
            errors(&path),
            ["FILE:1:1: the file is not valid UTF-8 (save the file as UTF-8)"]
        );
    }

    // Requirements: CF08.
    #[test]
    fn reads_no_more_than_the_limit() {
        let dir = TempDir::new("cf08");
        let path = dir.file(&vec![b'#'; 10 << 20]);
        assert_eq!(read(&path, SIZE_MAX).unwrap().len(), SIZE_MAX + 1);
        assert_eq!(
            errors(&path),
            ["FILE: the file is larger than 4 MiB, the maximum for a configuration file"]
        );
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let dir = TempDir::new("relative");
        let path = dir.file(include_bytes!("../../../proxy.toml.example"));
        let settings = Settings::load(&path).unwrap();
        let shown = format!("{:?}", settings.certificates[0].source);
        assert!(shown.contains(&format!("{:?}", dir.0.join("fullchain.pem"))), "{shown}");
    }

    #[test]
    fn allows_the_depth_of_valid_files() {
        assert_eq!(
            too_deep("a.b.c = [[{ d.e = \"[[[[[[[[[[[[[[[[[[[[\" }]]\n# ((([[[[[[[[[[["),
            None
        );
        assert_eq!(too_deep(&"a.b = [1]\n".repeat(1000)), None);
        assert_eq!(too_deep(&("a = ".to_owned() + &"[".repeat(17))), Some(20..21));
        assert_eq!(too_deep("]".repeat(100).as_str()), None);
    }
}
