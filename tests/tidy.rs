//! Checks the source tree itself: layers, module documentation, sizes, names, pure files.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 90;

/// The rows of ARCHITECTURE.md, the lowest first. A module imports only from rows below its own.
const LAYERS: &[&[&str]] = &[
    &["stdx"],
    &["api", "sys"],
    &["cel", "pki", "streaming"],
    &["registry", "storage", "client", "runtime", "network"],
    &["control"],
    &[
        "apiserver",
        "controllers",
        "scheduler",
        "kubelet",
        "netpol",
        "proxy",
        "dns",
        "ingress",
        "provision",
    ],
    &["daemon"],
    &["cli", "main"],
];

/// Decisions live in files with these names; see CONTRIBUTING, "Decide, then do".
const PURE_FILES: &[&str] = &["plan.rs", "render.rs", "step.rs"];
const IMPURE: &[&str] = &["async ", "tokio", "::now(", "std::fs", "tracing::", "rand::"];

const BANNED_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "handler2"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

#[test]
fn modules_import_only_from_lower_layers() {
    let mut problems = Vec::new();
    for path in source_files() {
        let Some(module) = top_module(&path) else { continue };
        let Some(own) = layer(&module) else {
            problems.push(format!("{}: module `{module}` has no layer", path.display()));
            continue;
        };
        for (number, code) in code_lines(&path) {
            for target in crate_paths(&code) {
                let lower = layer(&target).is_some_and(|row| row < own);
                if target != module && !lower {
                    let place = path.display();
                    problems.push(format!("{place}:{number}: `{module}` may not use `{target}`"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> =
        source_files().into_iter().filter(|path| !read(path).starts_with("//! ")).collect();
    assert!(silent.is_empty(), "no `//!` on the first line: {silent:?}");
}

#[test]
fn files_stay_small_and_are_named_for_their_subject() {
    let mut problems = Vec::new();
    for path in source_files() {
        let lines = read(&path).lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{} has {lines} lines", path.display()));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if BANNED_NAMES.contains(&stem) {
            problems.push(format!("{}: name it for what it is about", path.display()));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn functions_fit_a_screen() {
    let mut problems = Vec::new();
    for path in source_files() {
        for (number, lines) in function_lengths(&read(&path)) {
            if lines > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{number}: {lines} lines", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn decision_files_are_pure() {
    let mut problems = Vec::new();
    for path in source_files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if PURE_FILES.contains(&name) {
            for (number, code) in code_lines(&path) {
                if let Some(found) = IMPURE.iter().find(|word| code.contains(**word)) {
                    problems.push(format!("{}:{number}: `{found}`", path.display()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let mut problems = Vec::new();
    for path in source_files() {
        let in_sys = top_module(&path).is_some_and(|module| module == "sys");
        for (number, code) in code_lines(&path) {
            if !in_sys && (code.contains("unsafe {") || code.contains("unsafe fn")) {
                problems.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn lint_exceptions_are_expected_and_have_a_reason() {
    let mut problems = Vec::new();
    for path in source_files() {
        for (number, code) in code_lines(&path) {
            if code.contains("#[allow(") || code.contains("#![allow(") {
                problems.push(format!("{}:{number}: use #[expect]", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Golden files that no test names any more would rot unseen.
#[test]
fn every_golden_directory_is_named_by_a_test() {
    let golden = Path::new("tests/golden");
    if !golden.is_dir() {
        return;
    }
    let tests: String = rust_files(Path::new("tests"))
        .iter()
        .chain(&source_files())
        .map(|path| read(path))
        .collect();
    for entry in fs::read_dir(golden).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            tests.contains(&format!("golden/{name}")),
            "tests/golden/{name} is used by no test"
        );
    }
}

fn source_files() -> Vec<PathBuf> {
    rust_files(Path::new("src"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn top_module(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?;
    let stem = Path::new(first.as_os_str()).file_stem()?.to_str()?.to_owned();
    (stem != "lib").then_some(stem)
}

/// Numbered lines without their comments.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    let text = read(path);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned());
    lines.enumerate().map(|(index, line)| (index + 1, line)).collect()
}

/// The `x` of every `crate::x` on the line.
fn crate_paths(code: &str) -> Vec<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with('$'))
        .map(|(at, found)| word(&code[at + found.len()..]))
        .collect()
}

/// First line and length of every function, by indentation (rustfmt makes that safe).
fn function_lengths(text: &str) -> Vec<(usize, usize)> {
    let mut lengths = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        match open {
            None if begins_function(code) && !line.trim_end().ends_with(['}', ';']) => {
                open = Some((index, indent));
            }
            Some((start, at)) if indent == at && (code == "}" || code.ends_with(';')) => {
                lengths.push((start + 1, index - start + 1));
                open = None;
            }
            _ => {}
        }
    }
    lengths
}

fn begins_function(code: &str) -> bool {
    let mut rest = code;
    for prefix in ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.starts_with("fn ")
}
