//! Who may know whom: the `use` lines of each crate against its list of layers, and no two files
//! that import each other. Also how wide comments may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate's modules from the lowest layer to the highest. A file imports its own layer and those
/// before it. A module that is in no list fails the test, so that a new one gets its place.
struct Layers {
    source: &'static str,
    layers: &'static [&'static [&'static str]],
}

const CRATES: &[Layers] = &[
    Layers {
        source: "kernels/src",
        layers: &[
            &["precision"],
            &["cpu"],
            &["gemm"],
            &["packed_input"],
            &["linear", "conv2d", "attention", "norm", "activation", "softmax", "elementwise"],
        ],
    },
    Layers {
        source: "model/src",
        layers: &[
            &["error", "guard", "input_file", "precisions", "rng", "whole_file"],
            &["source", "image"],
            &["networks"],
            &["text"],
            &["samplers"],
            &["generate"],
            &["tools"],
        ],
    },
    Layers {
        source: "model/python/src",
        layers: &[
            &["error"],
            &["arrays", "threads"],
            &["callbacks", "picture"],
            &["kernels", "pipeline", "samplers"],
        ],
    },
    Layers {
        source: "cli/src",
        layers: &[&["platform"], &["flags"], &["run"], &["bench", "serve"], &["commands"], &["args"]],
    },
];

/// Pairs that import each other and are still to be parted.
const STILL_CIRCLES: &[[&str; 2]] = &[];

/// Folders whose comments are at most [`WIDTH`] columns wide.
const WRAPPED: &[&str] = &["kernels", "benches", "tensor", "model", "cli", "tests"];
const WIDTH: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The Rust files of a folder, but for those of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `gemm/a/packed` for `gemm/a/packed.rs`, `gemm` for `gemm/mod.rs`, nothing for the crate's root.
fn module(source: &Path, file: &Path) -> String {
    let path = file.strip_prefix(source).expect("a file of the crate").with_extension("");
    let path = path.to_str().expect("names in ASCII").replace('\\', "/");
    match path.as_str() {
        "lib" | "main" => String::new(),
        path => path.strip_suffix("/mod").unwrap_or(path).to_owned(),
    }
}

/// What the file holds before its tests, without comments.
fn code(text: &str) -> String {
    let before = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = before.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths of `use` declarations, braces taken apart.
fn imports(code: &str) -> Vec<String> {
    let begins = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub").map_or(line, |line| {
            let line = line.trim_start();
            if line.starts_with('(') { line.split_once(')').map_or(line, |(_, rest)| rest) } else { line }
        });
        line.trim_start().starts_with("use ")
    };
    let mut paths = Vec::new();
    let mut at = 0;
    for line in code.lines() {
        if begins(line) {
            let rest = &code[at..];
            let start = rest.find("use ").expect("found above") + "use ".len();
            expand("", rest[start..].split(';').next().unwrap_or_default(), &mut paths);
        }
        at += line.len() + 1;
    }
    paths
}

/// `a::{b, c::d}` → `a::b`, `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(format!("{prefix}{}", path.trim_end_matches("::*")));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    let inside = &rest[..rest.rfind('}').expect("braces in pairs")];
    for (i, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[start..i].trim().is_empty() {
                    expand(&format!("{prefix}{}", head.trim()), &inside[start..i], paths);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// The module of the crate that a path names, from within `here`; nothing for other crates.
fn resolve(here: &str, path: &str, modules: &BTreeMap<String, PathBuf>) -> Option<String> {
    let mut place: Vec<&str> = here.split('/').filter(|part| !part.is_empty()).collect();
    let mut parts = path.split("::").peekable();
    match parts.peek()? {
        &"crate" => {
            place.clear();
            parts.next();
        }
        &"self" => drop(parts.next()),
        &"super" => {
            while parts.next_if_eq(&"super").is_some() {
                place.pop();
            }
        }
        first if modules.contains_key(&[&place[..], &[*first]].concat().join("/")) => {}
        _ => return None,
    }
    for part in parts {
        let deeper = [&place[..], &[part]].concat();
        if !modules.contains_key(&deeper.join("/")) {
            break;
        }
        place = deeper;
    }
    Some(place.join("/"))
}

/// For each module those that its file imports.
fn graph(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let is_test = |file: &PathBuf| file.to_string_lossy().ends_with("tests.rs");
    let files = sources(source).into_iter().filter(|file| !is_test(file));
    let modules: BTreeMap<_, _> = files.map(|file| (module(source, &file), file)).collect();
    let imported = |(here, file): (&String, &PathBuf)| {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let paths = imports(&code(&text));
        let found = paths.iter().filter_map(|path| resolve(here, path, &modules));
        (here.clone(), found.filter(|there| there != here && !there.is_empty()).collect())
    };
    modules.iter().map(imported).collect()
}

/// Whether one contains the other: a `mod.rs` and the files of its folder are one thing.
fn are_kin(a: &str, b: &str) -> bool {
    let contains = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('/'));
    contains(a, b) || contains(b, a)
}

#[test]
fn no_layer_imports_a_higher_one_and_no_two_files_each_other() {
    let mut faults = Vec::new();
    for Layers { source, layers } in CRATES {
        let graph = graph(&root().join(source));
        let rank = |module: &str| -> usize {
            let is_of = |name: &&str| module == *name || module.starts_with(&format!("{name}/"));
            let found = layers.iter().position(|layer| layer.iter().any(is_of));
            found.unwrap_or_else(|| panic!("{source}/{module} is in no layer: see tests/tests/layers.rs"))
        };
        for (here, imported) in graph.iter().filter(|(here, _)| !here.is_empty() && *here != "testing") {
            for there in imported {
                if rank(there) > rank(here) {
                    faults.push(format!("{source}: {here} imports {there}, which is above it"));
                }
                let circle = here < there && graph[there].contains(here) && !are_kin(here, there);
                if circle && !STILL_CIRCLES.contains(&[here, there]) {
                    faults.push(format!("{source}: {here} and {there} import each other"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn paths_are_found_in_use_lines() {
    let code = "use std::fmt;\npub(crate) use crate::gemm::{self, a::{rows, packed as p},\n    Epilogue};\nfn f() {}";
    let expected = ["std::fmt", "crate::gemm::self", "crate::gemm::a::rows", "crate::gemm::a::packed"];
    assert_eq!(imports(code)[..4], expected);
    let modules = ["", "gemm", "gemm/a", "gemm/a/rows"].map(|name| (name.to_owned(), PathBuf::new()));
    let modules = BTreeMap::from(modules);
    for (path, expected) in [
        ("crate::gemm::a::rows::Matrix", Some("gemm/a/rows")),
        ("super::Epilogue", Some("gemm")),
        ("rows::Matrix", Some("gemm/a/rows")),
        ("std::fmt", None),
    ] {
        assert_eq!(resolve("gemm/a", path, &modules).as_deref(), expected, "{path}");
    }
}

#[test]
fn comments_are_at_most_100_columns_wide() {
    let mut wide = Vec::new();
    for file in WRAPPED.iter().flat_map(|name| sources(&root().join(name))) {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut in_code = false;
        for (i, line) in text.lines().enumerate() {
            let comment = line.trim_start();
            let words = comment.trim_start_matches(['/', '!']).trim_start();
            in_code ^= words.starts_with("```");
            // Code, rows of tables and addresses cannot be wrapped.
            let whole = in_code || words.starts_with('|') || words.contains("http");
            if comment.starts_with("//") && !whole && line.chars().count() > WIDTH {
                wide.push(format!("{}:{}", file.strip_prefix(root()).unwrap_or(&file).display(), i + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than {WIDTH} columns:\n{}", wide.join("\n"));
}
