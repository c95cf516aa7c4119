//! What kinglet needs that is a module of the kernel, or built into it, and how that is found without
//! loading anything.
//!
//! Start at [`presence`].

use std::path::Path;

/// Something that the kernel may have.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) what_for: &'static str,
    /// Whether a machine that is alone cannot do without either.
    pub(super) is_vital: bool,
    pub(super) module: &'static str,
    /// Of the kernel's configuration.
    pub(super) option: &'static str,
}

/// br_netfilter is not here: nothing of kinglet asks for it.
pub(super) const FEATURES: [Feature; 5] = [
    Feature {
        name: "overlayfs",
        what_for: "keeps what containers write",
        is_vital: true,
        module: "overlay",
        option: "CONFIG_OVERLAY_FS",
    },
    Feature {
        name: "nf_tables",
        what_for: "applies network rules",
        is_vital: true,
        module: "nf_tables",
        option: "CONFIG_NF_TABLES",
    },
    Feature {
        name: "veth",
        what_for: "connects pods",
        is_vital: true,
        module: "veth",
        option: "CONFIG_VETH",
    },
    Feature {
        name: "bridge",
        what_for: "connects pods",
        is_vital: true,
        module: "bridge",
        option: "CONFIG_BRIDGE",
    },
    Feature {
        name: "vxlan",
        what_for: "connects pods of several nodes (or --flannel-backend host-gw)",
        is_vital: false,
        module: "vxlan",
        option: "CONFIG_VXLAN",
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Absent,
    /// Nothing on this host tells.
    Unknown,
}

/// What tells of the kernel's features, as far as it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// `/proc/filesystems`
    pub(super) file_systems: String,
    /// Names of `/sys/module`: what is loaded, and some of what is built in.
    pub(super) loaded: Vec<String>,
    /// `/lib/modules/RELEASE/modules.builtin` and `modules.dep`
    pub(super) modules: Vec<String>,
    /// `/proc/config.gz` or `/boot/config-RELEASE`
    pub(super) configuration: Option<String>,
}

/// A module that can be loaded is there: the kernel loads what is asked for.
pub(super) fn presence(feature: &Feature, sources: &Sources) -> Presence {
    let Sources { file_systems, loaded, modules, configuration } = sources;
    let is_file_system = file_systems
        .lines()
        .any(|line| line.split_whitespace().next_back() == Some(feature.module));
    if is_file_system || loaded.iter().any(|name| name == feature.module) {
        return Presence::There;
    }
    if modules.iter().any(|text| text.lines().any(|line| is_module(line, feature.module))) {
        return Presence::There;
    }
    let lines = configuration.as_deref().map(|text| text.lines());
    match lines.map(|mut lines| lines.any(|line| is_enabled(line, feature.option))) {
        // Of modules that the configuration names and that are nowhere, none can be loaded.
        Some(true) if modules.is_empty() => Presence::There,
        Some(_) => Presence::Absent,
        None if modules.is_empty() => Presence::Unknown,
        None => Presence::Absent,
    }
}

/// `kernel/fs/overlayfs/overlay.ko`, perhaps compressed, perhaps with what it depends on.
fn is_module(line: &str, module: &str) -> bool {
    let path = line.split(':').next().unwrap_or_default();
    let file = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = file.split(".ko").next().unwrap_or_default();
    file.contains(".ko") && name.replace('-', "_") == module
}

fn is_enabled(line: &str, option: &str) -> bool {
    line.split_once('=').is_some_and(|(name, value)| name == option && matches!(value, "y" | "m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Sources), expected: Presence) {
        let mut sources = Sources::default();
        change(&mut sources);
        assert_eq!(presence(&FEATURES[0], &sources), expected, "{sources:?}");
    }

    #[test]
    fn a_feature_is_found_wherever_it_is_told_of() {
        check(|_| {}, Presence::Unknown);
        check(
            |it| it.file_systems = "nodev\tproc\n\text4\nnodev\toverlay\n".to_owned(),
            Presence::There,
        );
        check(|it| it.loaded = vec!["overlay".to_owned()], Presence::There);
        let listed = "kernel/fs/overlayfs/overlay.ko.xz: kernel/lib/x.ko\n";
        check(|it| it.modules = vec![listed.to_owned()], Presence::There);
        let built_in = "kernel/fs/overlayfs/overlay.ko\n";
        check(|it| it.modules = vec![built_in.to_owned()], Presence::There);
        check(
            |it| it.modules = vec!["kernel/x.ko: kernel/overlay.ko\n".to_owned()],
            Presence::Absent,
        );
        check(|it| it.configuration = Some("CONFIG_OVERLAY_FS=y\n".to_owned()), Presence::There);
        let unset = "# CONFIG_OVERLAY_FS is not set\n";
        check(|it| it.configuration = Some(unset.to_owned()), Presence::Absent);
        let only_configured = |it: &mut Sources| {
            it.configuration = Some("CONFIG_OVERLAY_FS=m\n".to_owned());
            it.modules = vec!["kernel/x.ko:\n".to_owned()];
        };
        check(only_configured, Presence::Absent);
    }
}
