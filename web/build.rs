//! Carries the page along, where it was built (web/page/dist); its absence is no fault.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let dist = root.join("page/dist");
    // Cargo treats a missing path as always changed, so watch its parent.
    let seen = if dist.is_dir() { "page/dist" } else { "page" };
    println!("cargo::rerun-if-changed={seen}");
    let mut list = String::from("&[\n");
    let mut files = Vec::new();
    find(&dist, &mut files);
    files.sort();
    for file in files {
        let path = file.strip_prefix(&dist).unwrap().to_str().expect("the page's files have plain names");
        writeln!(list, "    ({path:?}, include_bytes!({:?}) as &[u8]),", file.to_str().unwrap()).unwrap();
    }
    list.push(']');
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("assets.rs"), list).unwrap();
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() { find(&path, files) } else { files.push(path) }
    }
}
