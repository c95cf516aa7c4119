//! The configuration file and its drop-ins: every flag is a key.
//!
//! Files become flags that stand before those of the command line, so that there is one parser and
//! one set of complaints. What the command line or the environment says wins over the files; of a
//! list all of it, as in k3s. After the file, `<file>.d/*.yaml` are read in the order of their names:
//! the last word on a key counts, and `key+` adds to a list what the files before have said.

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Read when it is there, unless `--config` names another.
const DEFAULT_PATH: &str = "/etc/kinglet/config.yaml";

/// The flag that names the file.
const CONFIG: &str = "config";

/// The commands that read a configuration file. Machines of both kinds may well be written about by
/// one hand.
const ROLES: &[&str] = &["server", "agent"];

/// A longer file is refused: it is no list of settings.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where there are more drop-ins than this, nothing is read.
const DROP_INS_MAX: usize = 100;

/// What the text of a file says, and whose words these are.
struct Source {
    path: PathBuf,
    text: String,
}

/// Adds what the configuration files say to the arguments of a command that reads them.
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
    let sources = read_all(path, given.is_some())?;
    let flags = flags(&sources, &cli, command, matches)?;
    // kinglet, the command, what the files say, what the user says.
    let (before, after) = arguments.split_at(2.min(arguments.len()));
    Ok([before, &flags, after].concat())
}

/// The file, where it is there or has to be, and its drop-ins.
fn read_all(path: &Path, is_named: bool) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {}
        read => sources.push(named(path, read)?),
    }
    for path in drop_ins(path)? {
        sources.push(named(&path, read(&path))?);
    }
    Ok(sources)
}

fn named(path: &Path, read: io::Result<String>) -> anyhow::Result<Source> {
    let place = path.display();
    let text = read.with_context(|| format!("configuration file {place} cannot be read"))?;
    Ok(Source { path: path.to_owned(), text })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

/// `<file>.d/*.yaml`, in the order of their names.
fn drop_ins(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let listed = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let place = directory.display();
    let listed = listed.with_context(|| format!("{place} cannot be read"))?;
    let mut paths: Vec<_> = listed.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        !is_hidden && path.extension().is_some_and(|extension| extension == "yaml")
    });
    if paths.len() > DROP_INS_MAX {
        bail!("{place} has more than {DROP_INS_MAX} files; put them together into fewer");
    }
    paths.sort();
    Ok(paths)
}

/// The flags of one key, as far as the files have been read.
struct Setting {
    key: String,
    flags: Vec<OsString>,
}

/// The flags that files stand for, without those that are said elsewhere.
fn flags(
    sources: &[Source],
    cli: &Command,
    command: &Command,
    matches: &ArgMatches,
) -> anyhow::Result<Vec<OsString>> {
    let mut settings = Vec::new();
    for Source { path, text } in sources {
        let place = || format!("configuration file {}", path.display());
        let keys = keys(text).with_context(place)?;
        for (key, value) in keys {
            set(&mut settings, (&key, &value), (cli, command)).with_context(place)?;
        }
    }
    let is_said = |key: &str| {
        let argument = command.get_arguments().find(|it| it.get_long() == Some(key));
        let source = argument.and_then(|it| matches.value_source(it.get_id().as_str()));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    settings.retain(|setting| !is_said(&setting.key));
    Ok(settings.into_iter().flat_map(|setting| setting.flags).collect())
}

fn keys(text: &str) -> anyhow::Result<Map<String, Value>> {
    match serde_saphyr::from_str::<Option<Value>>(text)? {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(keys)) => Ok(keys),
        Some(_) => bail!("is not a list of `key: value` lines"),
    }
}

/// Has one more line say what it says.
fn set(
    settings: &mut Vec<Setting>,
    (line, value): (&str, &Value),
    (cli, command): (&Command, &Command),
) -> anyhow::Result<()> {
    let key = line.strip_suffix('+').unwrap_or(line);
    let Some(argument) = find(cli, command, key)? else { return Ok(()) };
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    if line.ends_with('+') && !is_list {
        bail!("`{key}` is no list, to which `{line}` could add something");
    }
    let switch = matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Count);
    let flags = values(key, value, switch)?;
    if flags.len() > 1 && !is_list && !switch {
        bail!("`{key}` is one text, and no list");
    }
    match settings.iter_mut().find(|setting| setting.key == key) {
        Some(known) if line.ends_with('+') => known.flags.extend(flags),
        Some(known) => known.flags = flags,
        None => settings.push(Setting { key: key.to_owned(), flags }),
    }
    Ok(())
}

fn keys_of(command: &Command) -> impl Iterator<Item = (&str, &clap::Arg)> {
    let long = command.get_arguments().filter_map(|it| Some((it.get_long()?, it)));
    long.filter(|(name, _)| *name != CONFIG && *name != "help")
}

/// The flag of a key. A command that looks after a server has some of its keys, and does not mind the
/// others.
fn find<'a>(
    cli: &Command,
    command: &'a Command,
    key: &str,
) -> anyhow::Result<Option<&'a clap::Arg>> {
    if let Some((_, argument)) = keys_of(command).find(|(name, _)| *name == key) {
        return Ok(Some(argument));
    }
    let own = command.get_name();
    if !ROLES.contains(&own) {
        return Ok(None);
    }
    let others = ROLES.iter().filter(|role| **role != own);
    for role in others.filter_map(|role| cli.find_subcommand(role)) {
        if keys_of(role).any(|(name, _)| name == key) {
            let role = role.get_name();
            bail!("`{key}` is a key of `kinglet {role}`, and not of `kinglet {own}`");
        }
    }
    let nearest = keys_of(command).map(|(name, _)| (distance(name, key), name)).min();
    match nearest {
        // Where more than half of it would have to change, it was not meant.
        Some((changes, name)) if changes * 2 <= name.len().max(key.len()) => {
            bail!("`{key}` is not a key; did you mean `{name}`?")
        }
        _ => bail!("`{key}` is not a key; `kinglet {own} --help` has them all"),
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
#[path = "config_file_tests.rs"]
mod tests;
