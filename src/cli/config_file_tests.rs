//! What configuration files add to the command line, and what they are refused for.

use super::*;

/// What files add before `words`, or the complaint with its causes.
fn added(role: &str, files: &[&str], words: &[&str]) -> String {
    let all = [&["kinglet", role], words].concat();
    let matches = super::super::Cli::command().try_get_matches_from(all).unwrap();
    let (name, matches) = matches.subcommand().unwrap();
    let cli = super::super::Cli::command();
    let command = cli.find_subcommand(name).unwrap();
    let source = |(number, text): (usize, &&str)| Source {
        path: PathBuf::from(format!("{number}.yaml")),
        text: (*text).to_owned(),
    };
    let sources: Vec<_> = files.iter().enumerate().map(source).collect();
    match flags(&sources, &cli, command, matches) {
        Ok(flags) => flags.join(" ".as_ref()).into_string().unwrap(),
        Err(error) => format!("{error:#}"),
    }
}

#[track_caller]
fn check(file: &str, words: &[&str], expected: &str) {
    let added = added("server", &[file], words);
    let of_file = added.strip_prefix("configuration file 0.yaml: ");
    assert_eq!(of_file.unwrap_or(&added), expected);
}

#[track_caller]
fn check_files(files: &[&str], expected: &str) {
    assert_eq!(added("server", files, &[]), expected);
}

#[test]
fn keys_become_flags() {
    check("", &[], "");
    check("# nothing\n", &[], "");
    check("node-name: one\n", &[], "--node-name=one");
    check("https-listen-port: 7443\n", &[], "--https-listen-port=7443");
    check("tls-san:\n- a\n- b\n", &[], "--tls-san=a --tls-san=b");
    check("debug: true\n", &[], "--debug");
    check("debug: false\n", &[], "");
}

#[test]
fn the_command_line_wins() {
    check("node-name: one\n", &["--node-name", "two"], "");
    check("tls-san: [a, b]\n", &["--tls-san", "c"], "");
    check("tls-san+: [a, b]\n", &["--tls-san", "c"], "");
}

#[test]
fn mistakes_are_named() {
    check("node-nam: one\n", &[], "`node-nam` is not a key; did you mean `node-name`?");
    check("xyz: 1\n", &[], "`xyz` is not a key; `kinglet server --help` has them all");
    check("config: /a\n", &[], "`config` is not a key; `kinglet server --help` has them all");
    check("debug: maybe\n", &[], "`debug` must be true or false");
    check("node-name: {a: b}\n", &[], "`node-name` must be a text or a list of texts");
    check("node-name: [a, b]\n", &[], "`node-name` is one text, and no list");
    check(
        "node-name+: a\n",
        &[],
        "`node-name` is no list, to which `node-name+` could add something",
    );
    check("- a\n", &[], "is not a list of `key: value` lines");
}

#[test]
fn keys_of_the_other_role_are_said_to_be() {
    check("token: a\n", &[], "`token` is a key of `kinglet agent`, and not of `kinglet server`");
    let expected = "configuration file 0.yaml: `tls-san` is a key of `kinglet server`, and not of \
                    `kinglet agent`";
    let words = ["--server", "https://a:6443"];
    assert_eq!(added("agent", &["tls-san: a\n"], &words), expected);
}

#[test]
fn the_last_word_counts() {
    check_files(&["node-name: one\n", "node-name: two\n"], "--node-name=two");
    check_files(&["tls-san: [a, b]\n", "tls-san: c\n"], "--tls-san=c");
    check_files(&["debug: true\n", "debug: false\n"], "");
    check_files(&["node-name: one\n", "node-name:\n"], "");
    check_files(&["node-name: one\n", ""], "--node-name=one");
    check_files(&["node-name: one\n", "debug: true\n"], "--node-name=one --debug");
}

#[test]
fn what_is_added_to_a_list_comes_after_it() {
    check_files(&["tls-san: [a, b]\n", "tls-san+: c\n", "tls-san+: [d]\n"], {
        "--tls-san=a --tls-san=b --tls-san=c --tls-san=d"
    });
    check_files(&["tls-san+: a\n"], "--tls-san=a");
    check_files(&["tls-san+: a\n", "tls-san: b\n"], "--tls-san=b");
}

#[test]
fn the_file_with_the_mistake_is_named() {
    let unknown = "configuration file 1.yaml: `node-nam` is not a key; did you mean `node-name`?";
    check_files(&["debug: true\n", "node-nam: a\n"], unknown);
    assert!(added("server", &["", "a: [\n"], &[]).starts_with("configuration file 1.yaml: "));
}

/// Whose texts are read for a file, without the directory.
fn names(path: &Path, is_named: bool) -> Result<Vec<String>, String> {
    let name = |source: &Source| source.path.file_name().unwrap().to_string_lossy().into_owned();
    let read = read_all(path, is_named).map_err(|error| format!("{error:#}"))?;
    Ok(read.iter().map(name).collect())
}

#[test]
fn drop_ins_come_after_the_file_in_the_order_of_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("config.yaml");
    assert_eq!(names(&main, false).unwrap(), Vec::<String>::new());
    assert!(names(&main, true).unwrap_err().contains("config.yaml cannot be read"));
    let drop_ins = directory.path().join("config.yaml.d");
    std::fs::create_dir(&drop_ins).unwrap();
    for name in ["20-b.yaml", "10-a.yaml", ".hidden.yaml", "notes.txt", "c.yaml.bak"] {
        std::fs::write(drop_ins.join(name), "").unwrap();
    }
    assert_eq!(names(&main, false).unwrap(), ["10-a.yaml", "20-b.yaml"], "without the file");
    std::fs::write(&main, "").unwrap();
    assert_eq!(names(&main, true).unwrap(), ["config.yaml", "10-a.yaml", "20-b.yaml"]);
}

#[test]
fn files_have_limits() {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("config.yaml");
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    std::fs::write(&main, large).unwrap();
    assert!(names(&main, false).unwrap_err().contains("more than 1048576 bytes"));
    std::fs::write(&main, "").unwrap();
    let drop_ins = directory.path().join("config.yaml.d");
    std::fs::create_dir(&drop_ins).unwrap();
    for number in 0..=DROP_INS_MAX {
        std::fs::write(drop_ins.join(format!("{number}.yaml")), "").unwrap();
    }
    assert!(names(&main, false).unwrap_err().contains("more than 100 files"));
}
