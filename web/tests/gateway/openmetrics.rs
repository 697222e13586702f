//! OpenMetrics 1.0, read as strictly as its text says: what a scraper would refuse fails here.

use std::collections::{BTreeMap, BTreeSet};

/// Values by series: its name and its labels as they were written.
pub(crate) type Series = BTreeMap<String, f64>;

/// All series.
///
/// # Panics
///
/// It is no OpenMetrics.
pub(crate) fn read(text: &str) -> Series {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let (mut series, mut families) = (Series::new(), BTreeSet::new());
    let mut family: Option<(&str, &str)> = None;
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(is_name(name), "{line}");
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(families.insert(name), "{name} comes in two places");
            family = Some((name, kind));
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(family.is_some_and(|(of, _)| of == name) && !help.is_empty(), "{line}");
        } else {
            let (of, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) = match of.split_once('{') {
                Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
                None => (of, ""),
            };
            check_labels(labels);
            let (base, kind) = family.expect("a sample belongs to a family");
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                "info" => &["_info"],
                _ => &[""],
            };
            let suffix = name.strip_prefix(base).unwrap_or("another family");
            assert!(suffixes.contains(&suffix), "{line} is no {kind} {base}");
            assert!(value >= 0.0 || kind == "gauge", "{line}");
            assert!(series.insert(of.to_owned(), value).is_none(), "{of} is there twice");
        }
    }
    // No family's name with its suffix is another family's.
    for name in &families {
        for suffix in ["_total", "_bucket", "_count", "_sum", "_info"] {
            assert!(!families.contains(format!("{name}{suffix}").as_str()), "{name}{suffix}");
        }
    }
    check_histograms(body);
    series
}

/// Buckets rise, the last is all, and so is the count.
fn check_histograms(body: &str) {
    let mut buckets: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for line in body.lines().filter(|line| line.contains("_bucket{")) {
        let (of, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = of.split_once("_bucket{").unwrap();
        let (labels, le) = labels.trim_end_matches('}').split_once(",le=\"").unwrap();
        let le = le.trim_end_matches('"').replace("+Inf", "inf").parse().unwrap();
        buckets.entry((name.into(), labels.into())).or_default().push((le, value.parse().unwrap()));
    }
    for ((name, labels), steps) in buckets {
        assert!(steps.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {steps:?}");
        let (le, all) = *steps.last().unwrap();
        assert!(le.is_infinite(), "{name}");
        let count = body.lines().find_map(|line| line.strip_prefix(&format!("{name}_count{{{labels}}} ")));
        assert!(count.is_none_or(|count| count.parse::<f64>() == Ok(all)), "{name}: {count:?}");
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_labels(mut labels: &str) {
    let mut names = BTreeSet::new();
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").unwrap();
        assert!(is_name(name) && names.insert(name), "{labels}");
        let mut end = None;
        let mut escaped = false;
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        labels = &rest[end.expect("a label's value ends") + 1..];
        labels = labels.strip_prefix(',').unwrap_or(labels);
    }
}
