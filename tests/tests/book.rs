//! The chapters of `model/book/`: the list is complete, every link leads to a file, and every
//! source file that a chapter names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Name and text of each Markdown file of the book.
fn pages() -> Vec<(String, String)> {
    let folder = root().join("model/book/src");
    let files = fs::read_dir(&folder).expect("the book is part of the repository");
    let name = |path: &Path| path.file_name().expect("a file has a name").to_string_lossy().into_owned();
    files
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| (name(&path), fs::read_to_string(&path).expect("a page is text")))
        .collect()
}

/// The targets of `[text](target)` and `![text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn the_summary_lists_every_page() {
    let pages = pages();
    let summary = &pages.iter().find(|(name, _)| name == "SUMMARY.md").expect("there is a summary").1;
    let listed: BTreeSet<_> = links(summary).collect();
    let present: BTreeSet<_> =
        pages.iter().map(|(name, _)| name.as_str()).filter(|&name| name != "SUMMARY.md").collect();
    assert_eq!(listed, present);
    assert!(present.len() >= 14, "{} pages", present.len());
}

#[test]
fn links_and_source_files_exist() {
    for (name, text) in pages() {
        for target in links(&text).filter(|target| !target.contains("://")) {
            let path = root().join("model/book/src").join(target);
            assert!(path.is_file(), "{name}: the link {target} leads nowhere");
        }
        let folders = ["tensor/", "kernels/", "model/", "cli/", "tests/", "benches/"];
        let named = text.split('`').skip(1).step_by(2).filter(|code| !code.contains([' ', '\n']));
        for path in named.filter(|code| folders.iter().any(|folder| code.starts_with(folder))) {
            assert!(root().join(path).exists(), "{name}: there is no {path}");
        }
    }
}

#[test]
fn every_chapter_ends_in_two_exercises() {
    for (name, text) in pages() {
        if ["SUMMARY.md", "introduction.md"].contains(&name.as_str()) {
            continue;
        }
        let exercises =
            text.split_once("## Exercises").unwrap_or_else(|| panic!("{name} has no exercises")).1;
        assert_eq!(exercises.matches("**Expected:**").count(), 2, "{name}");
    }
}
