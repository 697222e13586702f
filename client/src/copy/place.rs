//! What is copied from where to where: how places are written, and which of them is in a guest.
//!
//! Owns the form `NAME:/PATH`, and the name of a copy in a folder. Looks at no files.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::printable::{printable, shown};

/// A file, or a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The standard input or output.
    Standard,
    Here(PathBuf),
    Guest {
        name: String,
        path: String,
        /// It was written as a folder.
        is_folder: bool,
    },
}

/// One file to copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Copy {
    /// Into the guest of this name, under this path.
    Into { from: Option<PathBuf>, guest: String, path: String },
    /// Out of it; nowhere: to the standard output.
    OutOf { guest: String, path: String, to: Option<PathBuf> },
}

impl Place {
    /// Reads one. What has a `:/` before any other `/` is in a guest.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Standard);
        }
        match text.split_once(":/") {
            Some((name, path)) if !name.is_empty() && !name.contains('/') => {
                let (path, is_folder) = plain(path)?;
                Ok(Self::Guest { name: name.to_owned(), path, is_folder })
            }
            _ if text.is_empty() => Err(Failure::usage("a path is empty")),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// A path from the root as guests take it, and whether it can only be a folder's.
fn plain(path: &str) -> Result<(String, bool), Failure> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(Failure::usage(format!("write the path in the guest without ..: /{}", printable(path))));
    }
    let is_folder = parts.is_empty() || path.ends_with('/') || path.ends_with("/.");
    Ok((format!("/{}", parts.join("/")), is_folder))
}

/// The copies that are meant by sources and a target. `is_folder` says of a path here whether it is one.
pub(super) fn plan(
    sources: &[Place],
    target: &Place,
    is_folder: impl Fn(&Path) -> bool,
) -> Result<Vec<Copy>, Failure> {
    let several = sources.len() > 1;
    let copy = |source: &Place| match (source, target) {
        (Place::Guest { .. }, Place::Guest { .. }) => {
            Err(Failure::usage("both sides are in guests: copy it here, and from here on"))
        }
        (Place::Here(_) | Place::Standard, Place::Here(_) | Place::Standard) => {
            Err(Failure::usage("neither side is in a guest: one is to be NAME:/PATH, written from the root"))
        }
        (Place::Guest { is_folder: true, path, .. }, _) => {
            let hint = "only files are copied; for all of it: vspc exec NAME -- tar c …";
            Err(Failure::usage(format!("{} is a folder: {hint}", printable(path))))
        }
        (Place::Guest { name, path, .. }, Place::Standard) if !several => {
            Ok(Copy::OutOf { guest: name.clone(), path: path.clone(), to: None })
        }
        (Place::Guest { .. }, Place::Standard) => {
            Err(Failure::usage("several files would be one on the standard output: copy each by itself"))
        }
        (Place::Guest { name, path, .. }, Place::Here(to)) => {
            let ends_as_folder = to.as_os_str().as_encoded_bytes().ends_with(b"/");
            let into = several || ends_as_folder || is_folder(to);
            if into && !is_folder(to) {
                return Err(Failure::error(format!("{} is no folder", shown(to))));
            }
            let file = path.rsplit('/').next().unwrap_or_default();
            let to = if into { to.join(file) } else { to.clone() };
            Ok(Copy::OutOf { guest: name.clone(), path: path.clone(), to: Some(to) })
        }
        (source, Place::Guest { name, path, is_folder: ends_as_folder }) => {
            let into = several || *ends_as_folder;
            let from = if let Place::Here(from) = source { Some(from.clone()) } else { None };
            let file = from.as_deref().and_then(Path::file_name);
            let path = match (into, file.map(|file| file.to_str())) {
                (false, _) => path.clone(),
                (true, Some(Some(file))) => format!("{}/{file}", path.trim_end_matches('/')),
                (true, Some(None)) => {
                    return Err(Failure::usage(
                        "a file's name is not UTF-8: give the path that it is to have",
                    ));
                }
                (true, None) => {
                    return Err(Failure::usage(
                        "what is copied has no name: give the path that it is to have",
                    ));
                }
            };
            Ok(Copy::Into { from, guest: name.clone(), path })
        }
    };
    let copies = sources.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
    for (at, copy) in copies.iter().enumerate() {
        if copies[..at].iter().any(|other| copy.has_target_of(other)) {
            let target = match copy {
                Copy::Into { path, .. } => printable(path).into_owned(),
                Copy::OutOf { to, .. } => to.as_deref().map(shown).unwrap_or_default(),
            };
            return Err(Failure::usage(format!("two files would be {target}: copy each by itself")));
        }
    }
    Ok(copies)
}

impl Copy {
    /// Whether this one would take the place of the other one.
    fn has_target_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Into { guest, path, .. }, Self::Into { guest: of, path: there, .. }) => {
                (guest, path) == (of, there)
            }
            (Self::OutOf { to, .. }, Self::OutOf { to: there, .. }) => to == there,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sources: &[&str], target: &str) -> Result<Vec<Copy>, String> {
        let place = |text: &str| Place::parse(text).map_err(|failure| failure.message);
        let sources = sources.iter().map(|source| place(source)).collect::<Result<Vec<_>, _>>()?;
        let is_folder = |path: &Path| path.to_str().is_some_and(|path| path.trim_end_matches('/') == "dir");
        plan(&sources, &place(target)?, is_folder).map_err(|failure| failure.message)
    }

    fn into(from: Option<&str>, path: &str) -> Copy {
        Copy::Into { from: from.map(Into::into), guest: "web01".to_owned(), path: path.to_owned() }
    }

    fn out_of(path: &str, to: Option<&str>) -> Copy {
        Copy::OutOf { guest: "web01".to_owned(), path: path.to_owned(), to: to.map(Into::into) }
    }

    #[test]
    fn one_side_is_in_a_guest_and_what_goes_into_a_folder_keeps_its_name() {
        for (sources, target, copies) in [
            (&["a/x"][..], "web01:/srv//./y", vec![into(Some("a/x"), "/srv/y")]),
            (&["a/x"], "web01:/srv/", vec![into(Some("a/x"), "/srv/x")]),
            (&["a/x", "./b:/z"], "web01:/", vec![into(Some("a/x"), "/x"), into(Some("./b:/z"), "/z")]),
            (&["-"], "web01:/srv/y", vec![into(None, "/srv/y")]),
            (&["web01:/srv/x"], "y", vec![out_of("/srv/x", Some("y"))]),
            (&["web01:/srv/x"], "dir", vec![out_of("/srv/x", Some("dir/x"))]),
            (&["web01:/x"], "-", vec![out_of("/x", None)]),
            (
                &["web01:/x", "web01:/y"],
                "dir/",
                vec![out_of("/x", Some("dir/x")), out_of("/y", Some("dir/y"))],
            ),
        ] {
            assert_eq!(planned(sources, target), Ok(copies), "{sources:?} {target}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_in_words() {
        for (sources, target, words) in [
            (&["a"][..], "b", "neither side is in a guest"),
            (&["web01:etc/x"], "b", "neither side is in a guest"),
            (&["web01:/a"], "web02:/b", "both sides"),
            (&["web01:/a", "b"], "web01:/c", "both sides"),
            (&["web01:/a/"], "b", "is a folder"),
            (&["web01:/a/../b"], "b", "without .."),
            (&["web01:/a", "web01:/b"], "c", "c is no folder"),
            (&["web01:/a"], "c/", "c/ is no folder"),
            (&["web01:/a", "web01:/b"], "-", "copy each by itself"),
            (&["-"], "web01:/srv/", "has no name"),
            (&[""], "web01:/x", "empty"),
            (&["web01:/a/x", "web02:/b/x"], "dir", "two files would be dir/x"),
            (&["a/x", "b/x"], "web01:/srv", "two files would be /srv/x"),
            (&["web01:/a", "web01:/b"], "\x1b[31m", "\\x1b[31m is no folder"),
        ] {
            let message = planned(sources, target).unwrap_err();
            assert!(message.contains(words), "{sources:?} {target}: {message}");
        }
    }
}
