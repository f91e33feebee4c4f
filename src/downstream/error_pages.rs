//! The bodies of the proxy's own error responses, from the files in `[error_pages]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::response::{Body, boxed};
use crate::config::settings::ERROR_PAGES;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::late_diagnostic::LateDiagnostic;
use crate::config::toml::source;

/// The pages by status. All responses share their memory.
#[derive(Clone, Debug, Default)]
pub struct ErrorPages(Arc<[(StatusCode, ErrorPage)]>);

#[derive(Debug)]
struct ErrorPage {
    content_type: &'static str,
    body: Bytes,
}

impl ErrorPages {
    /// Reads the files, which are in the order of [`ERROR_PAGES`].
    ///
    /// # Errors
    /// One diagnostic for each file that cannot be read, is too large or is not UTF-8.
    pub fn load(files: &[Option<PathBuf>; ERROR_PAGES.len()]) -> Result<Self, Vec<LateDiagnostic>> {
        let (mut pages, mut errors) = (Vec::new(), Vec::new());
        for ((key, status), file) in ERROR_PAGES.into_iter().zip(files) {
            let Some(file) = file else { continue };
            match read(file) {
                Ok(page) => pages.push((status, page)),
                Err(problem) => errors.push(LateDiagnostic {
                    key: format!("error_pages.{key}"),
                    problem: format!("{}: {problem}", file.display()),
                }),
            }
        }
        if errors.is_empty() { Ok(Self(pages.into())) } else { Err(errors) }
    }

    /// The body of responses with this status, if there is a page for it.
    pub fn body(&self, status: StatusCode) -> Option<&Bytes> {
        self.0.iter().find(|(of, _)| *of == status).map(|(_, page)| &page.body)
    }

    /// Replaces the body of a response by the page for its status, if there is one.
    pub fn apply(&self, response: &mut Response<Body>) {
        let status = response.status();
        if let Some((_, page)) = self.0.iter().find(|(of, _)| *of == status) {
            *response.body_mut() = boxed(Full::new(page.body.clone()));
            let content_type = HeaderValue::from_static(page.content_type);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
    }
}

fn read(file: &Path) -> Result<ErrorPage, Problem> {
    let bytes = source::read(file, PAGE_BYTES_MAX)?;
    if bytes.len() > PAGE_BYTES_MAX {
        let problem =
            format!("larger than {} KiB, the maximum for an error page", PAGE_BYTES_MAX >> 10);
        return Err(
            Problem::new(problem).help("link to images and styles instead of including them")
        );
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(Problem::new("the file is not valid UTF-8").help("save the file as UTF-8"));
    };
    Ok(ErrorPage { content_type: content_type(file, text), body: bytes.into() })
}

/// The type by the name of the file or, if that says nothing, by its first character.
fn content_type(file: &Path, text: &str) -> &'static str {
    let extension = file.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm") => HTML,
        Some("json") => JSON,
        Some("txt") => PLAIN,
        _ => match text.trim_start().chars().next() {
            Some('<') => HTML,
            Some('{' | '[') => JSON,
            _ => PLAIN,
        },
    }
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
/// Maximum size of a page. A rejected request must not cost much more than its answer was made for.
const PAGE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_follows_name_then_content() {
        for (name, text, expected) in [
            ("a.html", "{", HTML),
            ("a.HTM", "", HTML),
            ("a.json", "<", JSON),
            ("a.txt", "<", PLAIN),
            ("a.page", "\n <p>", HTML),
            ("a", "[1]", JSON),
            ("a", "{}", JSON),
            ("a", "", PLAIN),
            ("a", "sorry", PLAIN),
        ] {
            assert_eq!(content_type(Path::new(name), text), expected, "{name} {text:?}");
        }
    }
}
