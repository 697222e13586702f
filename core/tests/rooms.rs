//! The engine's rooms: its operations call down only, and `docs/architecture.md` draws them as they are.
//!
//! Read from the source: which file has which method of the engine, and which of those it calls on `self`.
#![expect(
    clippy::disallowed_methods,
    reason = "it reads the source of the engine, which is what it is about"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// For each file with methods of the engine, the text of those.
fn operations() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/concentrator");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the engine has a folder") {
        let path = entry.expect("it can be listed").path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut methods = String::new();
        let mut rest = &text[..];
        while let Some(start) = rest.find("impl Concentrator {\n") {
            let end = rest[start..].find("\n}\n").map_or(rest.len(), |end| start + end);
            methods.push_str(&rest[start..end]);
            rest = &rest[end..];
        }
        if !methods.is_empty() {
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            found.insert(name, methods);
        }
    }
    found
}

/// The words right before an opening parenthesis that follow `before`.
fn words<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        let is_call = rest[end..].starts_with(['(', '<']) || rest[end..].starts_with("::<");
        (end > 0 && is_call).then(|| &rest[..end])
    })
}

fn calls() -> Graph {
    let operations = operations();
    let mut home = BTreeMap::new();
    for (file, text) in &operations {
        for method in words(text, "fn ") {
            assert!(home.insert(method, file).is_none(), "{method} is in two files");
        }
    }
    operations
        .iter()
        .map(|(file, text)| {
            let joined: String = text.split("self\n").map(str::trim_start).collect::<Vec<_>>().join("self");
            let called = words(&joined, "self.").filter_map(|method| home.get(method).copied());
            (file.clone(), called.filter(|other| *other != file).cloned().collect())
        })
        .collect()
}

#[test]
fn operations_of_the_engine_call_down_only() {
    let mut left = calls();
    assert!(left.len() > 8, "the engine's files were not found");
    while !left.is_empty() {
        let ground: Vec<String> = left
            .iter()
            .filter(|(_, called)| called.iter().all(|other| !left.contains_key(other)))
            .map(|(file, _)| file.clone())
            .collect();
        assert!(!ground.is_empty(), "these call each other in a circle: {left:#?}");
        for file in ground {
            left.remove(&file);
        }
    }
}

#[test]
fn the_page_on_architecture_draws_the_calls_as_they_are() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let page = std::fs::read_to_string(page).expect("docs/architecture.md is there");
    for (file, called) in calls() {
        let called: Vec<String> = called.into_iter().collect();
        let called = if called.is_empty() { "nobody".to_owned() } else { called.join(", ") };
        let row = format!("| `{file}` | {called} |");
        assert!(page.contains(&row), "docs/architecture.md needs the row:\n{row}");
    }
}
