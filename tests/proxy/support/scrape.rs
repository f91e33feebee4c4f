//! Parses the OpenMetrics text format 1.0 by its specification, independently of the library that
//! writes it.

use std::collections::{BTreeMap, BTreeSet};

use super::process::Proxy;
use super::test_bed::get;

/// One scrape, parsed and validated.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The type of each family, by name.
    pub families: BTreeMap<String, String>,
    /// The value of each series, by name and sorted labels.
    pub series: BTreeMap<(String, Labels), f64>,
}

/// Label names and values.
pub type Labels = BTreeMap<String, String>;

impl Proxy {
    /// Fetches and parses `/metrics`.
    pub async fn scrape(&self) -> Scrape {
        let (response, body) = get(self.admin().await, "/metrics").await;
        assert_eq!(response.status, 200, "{response:?}");
        let kind = response.header("content-type").unwrap();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        Scrape::read(std::str::from_utf8(&body).unwrap())
    }
}

impl Scrape {
    /// Parses a whole exposition; panics where it violates the format.
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        let mut current: Option<String> = None;
        let text = text.strip_suffix("# EOF\n").expect("ends with EOF");
        for line in text.strip_suffix('\n').unwrap().split('\n') {
            match line.strip_prefix("# ") {
                Some(comment) => read.comment(comment, &mut current),
                None => read.sample(line, current.as_deref().expect("samples follow a family")),
            }
        }
        read.check_histograms();
        read
    }

    /// The value of a series; 0 if it is missing.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series.get(&(name.to_owned(), of(labels))).copied().unwrap_or_default()
    }

    /// The sum of all series of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |has: &Labels| of(labels).iter().all(|(key, value)| has.get(key) == Some(value));
        let all = self.series.iter().filter(|((found, has), _)| found == name && fits(has));
        all.map(|(_, value)| value).sum()
    }

    /// Series of these families that grew since `before`, as `label values by difference`.
    pub fn increases(&self, before: &Self, names: &[&str]) -> Vec<String> {
        let mut grown = Vec::new();
        for ((name, labels), value) in &self.series {
            let by = value - before.series.get(&(name.clone(), labels.clone())).unwrap_or(&0.0);
            if names.contains(&name.as_str()) && by != 0.0 {
                let values: Vec<&str> = labels.values().map(String::as_str).collect();
                grown.push(format!("{} by {by}", values.join(" ")));
            }
        }
        grown
    }

    /// Label names of a family, without those that a histogram adds.
    pub fn labels(&self, family: &str) -> BTreeSet<&str> {
        let own = |name: &str| {
            let suffix = name.strip_prefix(family);
            suffix.is_some_and(|suffix| ["", "_total", "_count", "_info"].contains(&suffix))
        };
        let series = self.series.keys().filter(|(name, _)| own(name));
        series.flat_map(|(_, labels)| labels.keys().map(String::as_str)).collect()
    }

    fn comment(&mut self, comment: &str, current: &mut Option<String>) {
        let mut words = comment.splitn(3, ' ');
        let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next());
        assert!(is_name(name), "{comment}");
        match kind {
            "HELP" => {
                assert!(!rest.unwrap().is_empty(), "{comment}");
                assert!(!self.families.contains_key(name), "{name} is repeated");
                *current = Some(name.to_owned());
                self.families.insert(name.to_owned(), String::new());
            }
            "TYPE" => {
                assert_eq!(current.as_deref(), Some(name), "{comment}");
                let types = ["counter", "gauge", "histogram", "info"];
                assert!(types.contains(&rest.unwrap()), "{comment}");
                *self.families.get_mut(name).unwrap() = rest.unwrap().to_owned();
            }
            "UNIT" => assert!(name.ends_with(&format!("_{}", rest.unwrap())), "{comment}"),
            _ => panic!("{comment}"),
        }
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (name, labels, value) = split(line);
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} in {family}"));
        let suffixes: &[&str] = match self.families[family].as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[],
        };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(suffix.is_empty() || (value.is_finite() && value >= 0.0), "{line}");
        let before = self.series.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "{line} is repeated");
    }

    /// Buckets are cumulative, and the last one equals the count.
    fn check_histograms(&self) {
        for (family, _) in self.families.iter().filter(|(_, kind)| *kind == "histogram") {
            let counts =
                self.series.iter().filter(|((name, _), _)| *name == format!("{family}_count"));
            for ((_, labels), count) in counts {
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                for ((name, has), value) in &self.series {
                    let mut without = has.clone();
                    let bound = without.remove("le");
                    if *name == format!("{family}_bucket") && without == *labels {
                        let bound = bound.unwrap().replace("+Inf", "inf");
                        buckets.push((bound.parse().unwrap(), *value));
                    }
                }
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family} {labels:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{family} {labels:?}");
            }
        }
    }
}

fn of(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Splits `name{label="value",...} number`.
fn split(line: &str) -> (&str, Labels, &str) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, rest_of_label) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, remainder) = unquote(rest_of_label, line);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            match remainder.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = remainder.strip_prefix('}').unwrap_or_else(|| panic!("{line}"));
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    assert!(!value.contains(' '), "{line}");
    (name, labels, value)
}

/// A label value up to its closing quote, and the rest of the text.
fn unquote<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => panic!("{line}"),
            }),
            c => value.push(c),
        }
    }
    panic!("{line}")
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}
