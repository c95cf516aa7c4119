//! The configuration file: every flag is a key.
//!
//! A file becomes flags that stand before those of the command line, so that there is one parser
//! and one set of complaints. What the command line or the environment says wins over the file;
//! of a list all of it, as in k3s.

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Read when it is there, unless `--config` names another.
const DEFAULT_PATH: &str = "/etc/kinglet/config.yaml";

/// The flag that names the file.
const CONFIG: &str = "config";

/// Adds what the configuration file says to the arguments of a command that reads one.
pub(super) fn merge(
    arguments: Vec<OsString>,
    matches: &ArgMatches,
) -> anyhow::Result<Vec<OsString>> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(arguments) };
    let cli = super::Cli::command();
    let command = cli.find_subcommand(name).expect("clap matched this command");
    if !command.get_arguments().any(|argument| argument.get_id() == CONFIG) {
        return Ok(arguments);
    }
    let given: Option<&PathBuf> = matches.get_one(CONFIG);
    let path = given.map_or(Path::new(DEFAULT_PATH), PathBuf::as_path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {
            return Ok(arguments);
        }
        Err(error) => {
            let place = path.display();
            return Err(error).context(format!("configuration file {place} cannot be read"));
        }
    };
    let flags = flags(&text, command, matches)
        .with_context(|| format!("configuration file {}", path.display()))?;
    // kinglet, the command, what the file says, what the user says.
    let (before, after) = arguments.split_at(2.min(arguments.len()));
    Ok([before, &flags, after].concat())
}

/// The flags that a file stands for, without those that are said elsewhere.
fn flags(text: &str, command: &Command, matches: &ArgMatches) -> anyhow::Result<Vec<OsString>> {
    let document: Option<Value> = serde_saphyr::from_str(text)?;
    let keys = match document {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(keys)) => keys,
        Some(_) => bail!("is not a list of `key: value` lines"),
    };
    let mut flags = Vec::new();
    for (key, value) in keys {
        let argument = find(command, &key)?;
        let source = matches.value_source(argument.get_id().as_str());
        let said = matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        if !said {
            let switch = matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Count);
            flags.extend(values(&key, &value, switch)?);
        }
    }
    Ok(flags)
}

fn find<'a>(command: &'a Command, key: &str) -> anyhow::Result<&'a clap::Arg> {
    let known =
        || command.get_arguments().filter_map(|argument| Some((argument.get_long()?, argument)));
    let usable = |name: &str| name != CONFIG && name != "help";
    if let Some((_, argument)) = known().find(|(name, _)| *name == key && usable(name)) {
        return Ok(argument);
    }
    let names = known().map(|(name, _)| name).filter(|name| usable(name));
    match names.min_by_key(|name| distance(name, key)) {
        Some(nearest) => bail!("`{key}` is not a key; did you mean `{nearest}`?"),
        None => bail!("`{key}` is not a key"),
    }
}

fn values(key: &str, value: &Value, switch: bool) -> anyhow::Result<Vec<OsString>> {
    let flag = |value: String| OsString::from(format!("--{key}={value}"));
    Ok(match value {
        Value::Null => Vec::new(),
        Value::Bool(true) if switch => vec![OsString::from(format!("--{key}"))],
        Value::Bool(false) if switch => Vec::new(),
        _ if switch => bail!("`{key}` must be true or false"),
        Value::Bool(value) => vec![flag(value.to_string())],
        Value::Number(number) => vec![flag(number.to_string())],
        Value::String(text) => vec![flag(text.clone())],
        Value::Array(items) => {
            let nested = items.iter().map(|item| match item {
                Value::Array(_) | Value::Object(_) => bail!("`{key}` must be a list of texts"),
                item => values(key, item, switch),
            });
            nested.collect::<anyhow::Result<Vec<_>>>()?.concat()
        }
        Value::Object(_) => bail!("`{key}` must be a text or a list of texts"),
    })
}

/// How many characters differ between two words: enough to find a mistyped key.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file adds before `words`, or the complaint.
    #[track_caller]
    fn check(file: &str, words: &[&str], expected: &str) {
        let words = ["kinglet", "server"].iter().chain(words);
        let matches = super::super::Cli::command().try_get_matches_from(words).unwrap();
        let (name, matches) = matches.subcommand().unwrap();
        let cli = super::super::Cli::command();
        let command = cli.find_subcommand(name).unwrap();
        let actual = match flags(file, command, matches) {
            Ok(flags) => flags.join(" ".as_ref()).into_string().unwrap(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected);
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
    }

    #[test]
    fn mistakes_are_named() {
        check("node-nam: one\n", &[], "`node-nam` is not a key; did you mean `node-name`?");
        check("debug: maybe\n", &[], "`debug` must be true or false");
        check("node-name: {a: b}\n", &[], "`node-name` must be a text or a list of texts");
        check("- a\n", &[], "is not a list of `key: value` lines");
    }
}
