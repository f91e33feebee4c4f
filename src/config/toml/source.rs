//! From a path to bytes, to text, to a TOML document: read once, bounded in size and depth, never
//! waiting on a pipe. Knows no key.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::diagnostic::{Diagnostic, KeyPath, Problem};
use crate::config::values::units::ByteSize;

/// A fault of syntax as the parser words it.
pub(crate) type SyntaxErrors = (Range<usize>, String);

/// Reads a whole file, if it is one.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Problem::new("this is a directory").help("name the file in it"));
    }
    if !metadata.is_file() {
        // To open a pipe would wait for somebody to write.
        return Err(Problem::new("this is a pipe, socket or device, not a file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(SIZE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}

/// UTF-8, with or without a byte order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Diagnostic> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let wrong = Problem::new("this is not UTF-8").help("save the file as UTF-8");
        Diagnostic::at(KeyPath { key: String::new(), span: at..at + '\u{fffd}'.len_utf8() }, wrong)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Parses a document; faults of syntax that the parser could get over come beside it.
pub(crate) fn parse(text: &str) -> Result<(Spanned<DeTable<'_>>, Vec<SyntaxErrors>), Diagnostic> {
    if text.len() > SIZE_MAX {
        let most = ByteSize::new(u64::try_from(SIZE_MAX).unwrap_or(u64::MAX));
        return Err(Diagnostic::whole(Problem::new(format!("this is larger than {most}"))));
    }
    if let Some(span) = too_deep(text) {
        let wrong = Problem::new(format!("this is nested deeper than {DEPTH_MAX} levels"));
        return Err(Diagnostic::at(KeyPath { key: String::new(), span }, wrong));
    }
    let first = match DeTable::parse(text) {
        Ok(root) => return Ok((root, Vec::new())),
        Err(error) => error,
    };
    // A large file that is no TOML at all would give a fault for every byte.
    if text.len() > RECOVERABLE_MAX {
        return Err(fault(text, &syntax(text, &first)));
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    Ok((root, errors.iter().map(|error| syntax(text, error)).collect()))
}

/// What is to be told, when `left` are the faults of syntax that no value has claimed and `found`
/// is everything that was found while reading.
pub(crate) fn verdict(
    text: &str,
    all: &[SyntaxErrors],
    left: &[SyntaxErrors],
    mut found: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    if left.iter().all(|(_, message)| message == DUPLICATE) {
        found.extend(left.iter().map(|wrong| fault(text, wrong)));
        return found;
    }
    // The document is not what its author meant, so nothing else can be said about it; and of
    // what the parser says about one line only the first is of use.
    let mut all = all.to_vec();
    all.sort_by_key(|(span, _)| span.start);
    all.dedup_by(|(later, _), (earlier, _)| {
        text.get(earlier.start..later.start).is_some_and(|between| !between.contains('\n'))
    });
    all.iter().map(|wrong| fault(text, wrong)).collect()
}

fn unreadable(error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::NotFound {
        return Problem::new("there is no such file");
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Problem::new("tidegate may not read it")
            .help("look at the owner and mode of the file and of the folders above it");
    }
    Problem::new(format!("it cannot be read: {error}"))
}

/// The first place where brackets and dotted keys nest too deep. The parser bounds each of them,
/// but not their product, and its document is dropped by recursion.
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

fn syntax(text: &str, error: &toml::de::Error) -> SyntaxErrors {
    (error.span().unwrap_or(text.len()..text.len()), error.message().to_owned())
}

fn fault(text: &str, wrong: &SyntaxErrors) -> Diagnostic {
    let place = KeyPath { key: String::new(), span: wrong.0.clone() };
    Diagnostic::at(place, complaint(text, wrong))
}

/// What people get wrong most often in our own words, all else in the parser's.
pub(crate) fn complaint(text: &str, (span, message): &SyntaxErrors) -> Problem {
    let raw = text.get(span.clone()).unwrap_or("");
    if let Some(control) = raw.chars().next().filter(|c| c.is_control() && *c != '\n') {
        let wrong = format!("a control character, U+{:04X}", u32::from(control));
        return Problem::new(wrong).help("remove it");
    }
    match message.as_str() {
        DUPLICATE => Problem::new(format!("\"{raw}\" is here for the second time"))
            .help("a key stands once in its table, and a table has one header"),
        UNQUOTED if raw.is_empty() => Problem::new("the value is missing"),
        UNQUOTED => Problem::new("text stands in double quotes").help(format!("write \"{raw}\"")),
        UNCLOSED => Problem::new("the text has no closing quote"),
        other if other.starts_with(NO_COMMA) => {
            Problem::new(other).help("or is the list above it not closed with ]?")
        }
        other => Problem::new(other.trim_end_matches(", expected nothing")),
    }
}

/// No configuration is this large; a file that is was not meant.
const SIZE_MAX: usize = 4 << 20;
/// Largest file for which all faults of syntax are told, not only the first.
const RECOVERABLE_MAX: usize = 256 << 10;
/// Levels of brackets, and of dots in one key. The format itself has four.
const DEPTH_MAX: usize = 16;

// The parser's words. If they change, its own words are shown, and a test fails.
const DUPLICATE: &str = "duplicate key";
const UNQUOTED: &str = "string values must be quoted, expected literal string";
const NO_COMMA: &str = "missing comma between array elements";
const UNCLOSED: &str = "invalid basic string, expected `\"`";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::config::settings::Settings;
    use crate::config::toml::diagnostic::Diagnostics;

    /// A folder that is gone with the test.
    struct TempFolder(PathBuf);

    impl TempFolder {
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

    impl Drop for TempFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn told(path: &Path) -> Vec<String> {
        let faults: Diagnostics = Settings::load(path).expect_err("faults");
        let name = path.display().to_string();
        faults.lines().map(|line| line.replacen(&name, "FILE", 1)).collect()
    }

    // Requirements: CF01.
    #[test]
    fn rejects_non_files_without_blocking() {
        let folder = TempFolder::new("cf01");
        let pipe = folder.0.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let missing = folder.0.join("missing.toml");
        assert_eq!(told(&missing), ["FILE: there is no such file"]);
        assert_eq!(told(&folder.0), ["FILE: this is a directory (name the file in it)"]);
        let no_file = ["FILE: this is a pipe, socket or device, not a file"];
        assert_eq!(told(&pipe), no_file);
        assert_eq!(told(Path::new("/dev/null")), no_file);
        // A file instead of a folder on the way.
        let through = folder.file(b"").join("proxy.toml");
        assert!(told(&through)[0].starts_with("FILE: it cannot be read: "));
        let shown = Settings::load(&missing).unwrap_err().to_string();
        let name = missing.display();
        assert_eq!(shown, format!("{name}: there is no such file\n\n{name}: 1 fault"));
    }

    // Requirements: CF01.
    #[test]
    fn reports_an_unreadable_file() {
        let complaint = unreadable(io::ErrorKind::PermissionDenied.into());
        assert!(complaint.to_string().starts_with("tidegate may not read it (look at the owner"));
    }

    // Requirements: CF02.
    #[test]
    fn reports_invalid_utf8_with_its_line() {
        let folder = TempFolder::new("cf02");
        let path = folder.file(b"[server]\nworkers = 1 # caf\xe9\n");
        assert_eq!(told(&path), ["FILE:2:18: this is not UTF-8 (save the file as UTF-8)"]);
        let shown = Settings::load(&path).unwrap_err().to_string();
        assert!(
            shown.contains(" 2 | workers = 1 # caf\u{fffd}\n   |                  ^\n"),
            "{shown}"
        );
        let utf16: Vec<u8> = "[server]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let path = folder.file(&[&b"\xff\xfe"[..], &utf16].concat());
        assert_eq!(told(&path), ["FILE:1:1: this is not UTF-8 (save the file as UTF-8)"]);
    }

    // Requirements: CF08.
    #[test]
    fn reads_no_more_than_the_limit() {
        let folder = TempFolder::new("cf08");
        let path = folder.file(&vec![b'#'; 10 << 20]);
        assert_eq!(read(&path).unwrap().len(), SIZE_MAX + 1);
        assert_eq!(told(&path), ["FILE: this is larger than 4MiB"]);
    }

    #[test]
    fn certificates_are_beside_the_file() {
        let folder = TempFolder::new("beside");
        let path = folder.file(include_bytes!("../../../proxy.toml.example"));
        let settings = Settings::load(&path).unwrap();
        let shown = format!("{:?}", settings.certificates[0].source);
        assert!(shown.contains(&format!("{:?}", folder.0.join("fullchain.pem"))), "{shown}");
    }

    #[test]
    fn the_depth_of_lawful_files_is_not_too_deep() {
        assert_eq!(
            too_deep("a.b.c = [[{ d.e = \"[[[[[[[[[[[[[[[[[[[[\" }]]\n# ((([[[[[[[[[[["),
            None
        );
        assert_eq!(too_deep(&"a.b = [1]\n".repeat(1000)), None);
        assert_eq!(too_deep(&("a = ".to_owned() + &"[".repeat(17))), Some(20..21));
        assert_eq!(too_deep("]".repeat(100).as_str()), None);
    }
}
