//! A machine for the scripts of packaging/: a root directory of its own, of whose programs some write
//! down what they are asked.
//!
//! Start at [`Host::new`]. What the scripts change is seen in [`Host::files`], and who they asked for
//! something in [`Host::calls`]. Nothing outside of the root directory is written to.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where what is tested is.
const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");

/// What starts services on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Systemd,
    OpenRc,
    None,
}

/// With what scripts are run: dash has Debian's programs beside it, busybox has its own.
pub const SHELLS: [&str; 2] = ["dash", "busybox sh"];

/// See the module.
pub struct Host {
    directory: tempfile::TempDir,
    shell: &'static str,
    /// Where programs are looked for.
    programs: &'static str,
}

/// As services and administrators have it, behind what stands in for programs.
const SEARCH_PATH: &str =
    "PATH=/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a script said, and whether it did what it was asked for.
#[derive(Debug)]
pub struct Said {
    pub is_ok: bool,
    pub text: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        Self { is_ok: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.is_ok, "{}", self.text);
        self.text
    }

    /// It failed and said this.
    #[track_caller]
    pub fn refused(self, why: &str) {
        assert!(!self.is_ok && self.text.contains(why), "{}", self.text);
    }
}

/// The name of the executable for machines of this kind.
pub fn executable() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "kinglet-amd64",
        "aarch64" => "kinglet-arm64",
        _ => "kinglet-arm",
    }
}

/// Stands for programs that are asked for something. What they answer is in files of `/answers`: a
/// program fails where the file `NAME-fails` is there.
const RECORDER: &str = r#"#!/bin/sh
name=${0##*/}
printf '%s' "$name" >>/calls
for word in "$@"; do printf ' %s' "$word" >>/calls; done
echo >>/calls
! [ -f "/answers/$name-$1-fails" ] && ! [ -f "/answers/$name-fails" ]
"#;

/// Stands for kinglet: it carries what the real one does.
const KINGLET: &str = r#"#!/bin/sh
# VERSION
case $1 in
  version) echo "kinglet VERSION" ;;
  packaged) cat "/packaged/$2" ;;
  check)
    if [ -f /answers/interrupt ]; then kill -TERM "$PPID"; exit 1; fi
    if [ "${2:-}" = --packages ]; then
      if [ -f /answers/packages ]; then echo "$3: $(cat /answers/packages)" | sed 's/^.*: //'; fi
      exit 0
    fi
    echo "ok       root"
    [ ! -f /answers/lacks ] || { cat /answers/lacks; exit 1; }
    ;;
  killall)
    printf 'kinglet' >>/calls
    for word in "$@"; do printf ' <%s>' "$word" >>/calls; done
    echo " token=${KINGLET_TOKEN:-}" >>/calls
    [ ! -f /answers/killall-fails ]
    ;;
esac
"#;

impl Host {
    /// A machine with this and nothing of kinglet.
    pub fn new(init: Init, shell: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("kinglet-install.").tempdir().unwrap();
        // Debian's systemctl is on every machine that has its /usr.
        let programs = if init == Init::None { "PATH=/programs" } else { SEARCH_PATH };
        let host = Self { directory, shell, programs };
        for name in [
            "usr",
            "local/bin",
            "local/sbin",
            "dev",
            "proc",
            "tmp",
            "run",
            "etc",
            "var/log",
            "sbin",
        ] {
            fs::create_dir_all(host.path(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64", "lib32"] {
            if Path::new("/").join(name).exists() {
                symlink(format!("usr/{name}"), host.path(name)).unwrap();
            }
        }
        for name in ["answers", "programs", "packaged", "release"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        host.carry();
        // Where Debian's leads to is not below /usr.
        let awk = fs::canonicalize("/usr/bin/awk").unwrap();
        symlink(awk, host.path("programs/awk")).unwrap();
        for name in ["apt-get", "modprobe"] {
            host.program(name, RECORDER);
        }
        match init {
            Init::Systemd => {
                fs::create_dir_all(host.path("run/systemd/system")).unwrap();
                fs::create_dir_all(host.path("etc/systemd/system")).unwrap();
                host.program("systemctl", RECORDER);
            }
            Init::OpenRc => {
                fs::create_dir(host.path("run/openrc")).unwrap();
                fs::create_dir(host.path("etc/init.d")).unwrap();
                fs::create_dir(host.path("etc/logrotate.d")).unwrap();
                for name in ["rc-service", "rc-update"] {
                    host.program(name, RECORDER);
                }
                host.executable("sbin/openrc-run", RECORDER);
            }
            Init::None => symlink("/usr/bin/dash", host.path("programs/dash")).unwrap(),
        }
        if shell.starts_with("busybox") || init == Init::None {
            host.busybox();
        }
        host
    }

    /// What the executable carries, as the repository has it.
    fn carry(&self) {
        let repository = Path::new(PACKAGING).parent().unwrap();
        for (name, path) in [
            ("kinglet.service", "systemd/kinglet.service"),
            ("kinglet-agent.service", "systemd/kinglet-agent.service"),
            ("openrc", "packaging/openrc/kinglet"),
            ("killall.sh", "packaging/killall.sh"),
            ("uninstall.sh", "packaging/uninstall.sh"),
        ] {
            fs::copy(repository.join(path), self.path("packaged").join(name)).unwrap();
        }
    }

    /// All programs that busybox has, before those of Debian.
    fn busybox(&self) {
        let applets = Command::new("busybox").arg("--list").output().unwrap();
        let applets = String::from_utf8(applets.stdout).unwrap();
        for name in applets.lines() {
            let path = self.path("programs").join(name);
            if !path.exists() {
                symlink("/usr/bin/busybox", path).unwrap();
            }
            if name == "awk" && self.shell.starts_with("busybox") {
                fs::remove_file(self.path("programs/awk")).unwrap();
                symlink("/usr/bin/busybox", self.path("programs/awk")).unwrap();
            }
        }
    }

    /// Where a file of the machine is seen from outside.
    pub fn path(&self, name: &str) -> PathBuf {
        let name = name.trim_start_matches('/');
        let name =
            name.strip_prefix("usr/local/").map_or(name.to_owned(), |it| format!("local/{it}"));
        self.directory.path().join(name)
    }

    pub fn program(&self, name: &str, text: &str) {
        self.executable(&format!("programs/{name}"), text);
    }

    pub fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // What a link leads to is not the machine's own.
        fs::remove_file(&path).ok();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Has stand-ins answer so from now on.
    pub fn answer(&self, name: &str, text: &str) {
        self.write(&format!("answers/{name}"), text);
    }

    pub fn answer_well(&self, name: &str) {
        fs::remove_file(self.path("answers").join(name)).unwrap();
    }

    /// Puts a version of kinglet where it is fetched from, with its sum.
    pub fn release(&self, version: &str) {
        let text = KINGLET.replace("VERSION", version);
        self.executable(&format!("release/{}", executable()), &text);
        self.write("tmp/sum", &text);
        let sum = Command::new("sha256sum").arg(self.path("tmp/sum")).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let sum = sum.split_whitespace().next().unwrap();
        fs::remove_file(self.path("tmp/sum")).unwrap();
        let other = "0".repeat(64);
        let sums = format!("{other}  kinglet-other\n{sum}  {}\n", executable());
        self.write("release/sha256sums.txt", &sums);
    }

    /// As `curl | sh` would run a script.
    pub fn pipe(&self, script: &Path, environment: &[(&str, &str)], words: &[&str]) -> Said {
        let mut command = self.command(environment);
        command.args(self.shell.split(' ')).args(["-s", "-"]).args(words);
        command.stdin(File::open(script).unwrap());
        Said::of(&command.output().unwrap())
    }

    /// Installs from `/release`.
    pub fn install(&self, environment: &[(&str, &str)], words: &[&str]) -> Said {
        let url = [("INSTALL_KINGLET_URL", "file:///release")];
        let environment = [&url[..], environment].concat();
        self.pipe(&Path::new(PACKAGING).join("install.sh"), &environment, words)
    }

    /// Runs a script or program of the machine.
    pub fn run(&self, words: &[&str]) -> Said {
        let mut command = self.command(&[]);
        if words[0].ends_with(".sh") {
            command.args(self.shell.split(' '));
        }
        Said::of(&command.args(words).output().unwrap())
    }

    /// A command that has this root directory, and nothing of this process's environment.
    fn command(&self, environment: &[(&str, &str)]) -> Command {
        const ENTER: &str = r#"
            cd "$1" && shift
            mount --bind /usr usr && mount -o remount,bind,ro usr
            mount --bind local usr/local && mount --rbind /dev dev && mount --bind /proc proc
            exec chroot . /usr/bin/env -i "$@"
        "#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh"]);
        command.arg(self.directory.path());
        command.arg(self.programs);
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command
    }

    /// What stand-ins were asked since this was asked last, a line each.
    pub fn calls(&self) -> String {
        let path = self.path("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        fs::remove_file(&path).ok();
        calls
    }

    /// Every file and directory that a script could have made, with its mode, and its content where it
    /// is short.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for name in ["local", "etc", "run", "var", "tmp", "sbin"] {
            collect(self.directory.path(), Path::new(name), &mut files);
        }
        files
    }
}

fn collect(root: &Path, name: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root.join(name)).unwrap() {
        let entry = entry.unwrap();
        let name = name.join(entry.file_name());
        let facts = entry.metadata().unwrap();
        let mode = facts.permissions().mode() & 0o7777;
        let text = match facts.is_file() {
            true => fs::read_to_string(entry.path()).unwrap(),
            false => String::new(),
        };
        files.insert(name.to_str().unwrap().to_owned(), format!("{mode:o} {text}"));
        if facts.is_dir() {
            collect(root, &name, files);
        }
    }
}
