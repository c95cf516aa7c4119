//! What a container's first process is: arguments, environment, directory, identity.

use super::super::images::ImageConfig;
use super::super::{ContainerConfig, RuntimeError};
use super::{Inputs, capabilities};
use crate::sys::open_files::OpenFiles;
use crate::sys::process::SEARCH_PATH;
use crate::sys::signal;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User};
use std::path::PathBuf;

/// What ends a container that names no signal.
const STOP_SIGNAL_DEFAULT: &str = "SIGTERM";

pub(super) fn render(inputs: Inputs<'_>) -> Result<Process, RuntimeError> {
    let Inputs { container, image, host, .. } = inputs;
    let mut user = User::default();
    user.set_uid(inputs.user.uid);
    user.set_gid(inputs.user.gid);
    user.set_additional_gids(Some(inputs.user.additional_gids.clone()));

    let mut process = Process::default();
    process.set_terminal(Some(container.tty));
    process.set_user(user);
    process.set_args(Some(arguments(container, image)?));
    process.set_env(Some(environment(inputs)));
    process.set_cwd(working_directory(container, image)?);
    process.set_capabilities(Some(capabilities::render(&container.security, &host.capabilities)?));
    process.set_apparmor_profile(container.security.apparmor_profile.clone());
    process.set_no_new_privileges(Some(container.security.no_new_privileges));
    process.set_rlimits(inputs.host.open_files.map(|limit| vec![rlimit(limit)]));
    let floor = host.oom_score_floor.unwrap_or(i32::MIN);
    process.set_oom_score_adj(container.resources.oom_score_adj.map(|score| score.max(floor)));
    Ok(process)
}

fn rlimit(limit: OpenFiles) -> PosixRlimit {
    PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(limit.soft)
        .hard(limit.hard)
        .build()
        .expect("every field is set")
}

/// The pod's command replaces the image's entrypoint and command; its arguments alone replace the
/// image's command (Pod v1, `command` and `args`).
fn arguments(
    container: &ContainerConfig,
    image: &ImageConfig,
) -> Result<Vec<String>, RuntimeError> {
    let parts = match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => [&container.command[..], &container.args],
        (true, false) => [&image.entrypoint[..], &container.args],
        (true, true) => [&image.entrypoint[..], &image.cmd],
    };
    let arguments = parts.concat();
    if arguments.first().is_none_or(String::is_empty) {
        let text = "neither the pod nor the image names a command to run";
        return Err(RuntimeError::Invalid(text.to_owned()));
    }
    Ok(arguments)
}

/// The image's variables over the defaults, the pod's over the image's.
fn environment(inputs: Inputs<'_>) -> Vec<String> {
    let Inputs { container, image, sandbox, host, .. } = inputs;
    let hostname = if inputs.paths.uts.is_some() { &sandbox.hostname } else { &host.hostname };
    let mut variables: Vec<(&str, &str)> = vec![("PATH", SEARCH_PATH)];
    if container.tty {
        variables.push(("TERM", "xterm"));
    }
    variables.push(("HOSTNAME", hostname));
    variables.push(("HOME", &inputs.user.home));
    let image = image.env.iter().filter_map(|variable| variable.split_once('='));
    let pod = container.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in image.chain(pod) {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => variables.push((name, value)),
        }
    }
    variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_directory(
    container: &ContainerConfig,
    image: &ImageConfig,
) -> Result<PathBuf, RuntimeError> {
    let candidates = [&container.working_directory, &image.working_dir];
    let chosen = candidates.into_iter().find(|directory| !directory.is_empty());
    let chosen = chosen.map_or("/", String::as_str);
    if !chosen.starts_with('/') {
        let text = format!("the working directory `{chosen}` is not an absolute path");
        return Err(RuntimeError::Invalid(text));
    }
    Ok(PathBuf::from(chosen))
}

/// The number of the signal that asks a container to end.
pub(in super::super) fn stop_signal(
    container: &ContainerConfig,
    image: &ImageConfig,
) -> Result<u32, RuntimeError> {
    let image = Some(&image.stop_signal).filter(|name| !name.is_empty());
    let name = container.stop_signal.as_ref().or(image);
    let name = name.map_or(STOP_SIGNAL_DEFAULT, String::as_str);
    signal::parse(name)
        .ok_or_else(|| RuntimeError::Invalid(format!("there is no signal `{name}` to stop it")))
}
