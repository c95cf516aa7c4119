//! Mistakes get one clear error and change nothing.

use super::machine::Machine;
use std::os::unix::fs::PermissionsExt;

#[test]
fn two_servers_do_not_share_a_data_directory_or_a_port() {
    let mut machine = Machine::new();
    machine.start();
    let output = machine.second_server(&["--https-listen-port", "7443"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let data = machine.path("data");
    assert!(said.contains(data.to_str().unwrap()), "{said}");
    let other = machine.path("other");
    let output = machine.second_server(&["--data-dir", other.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("6443"), "{said}");
    machine.stop(nix::sys::signal::Signal::SIGTERM);
    machine.killall();
}

#[test]
fn wrong_flags_and_keys_are_named() {
    let machine = Machine::new();
    for (arguments, expected) in [
        (&["server", "--node-taint", "a=b"][..], "a taint is key=value:Effect"),
        (&["server", "--cluster-cidr", "10.43.0.0/16"], "overlap"),
        (&["server", "--https-listen-port", "70000"], "70000"),
        (&["server", "--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (&["serve"], "server"),
        (&["image", "import", "/nonexistent.tar"], "/nonexistent.tar"),
    ] {
        let output = machine.kinglet(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let path = machine.path("config.yaml");
    std::fs::write(&path, "node-nam: one\n").unwrap();
    let output = machine.kinglet(&["server", "--config", path.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("did you mean `node-name`?"), "{said}");
}

#[test]
fn bad_manifests_are_refused_by_name() {
    let mut machine = Machine::new();
    machine.start();
    let refused_with = |flags: &[&str], manifest: &str, expected: &str| {
        let path = machine.path("bad.yaml");
        std::fs::write(&path, manifest).unwrap();
        let apply = [&["apply", "-f", path.to_str().unwrap()], flags].concat();
        let said = machine.kubectl_refused(&apply);
        assert!(said.contains(expected), "{manifest}: {said}");
    };
    let refused = |manifest: &str, expected: &str| refused_with(&[], manifest, expected);
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n",
        "metadata.name: Invalid value",
    );
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatta: {}\n",
        "unknown field \"datta\"",
    );
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n",
        "spec.containers: Required value",
    );
    let unknown = "apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n";
    // With its own validation, each version of kubectl finds other words for it.
    refused_with(&["--validate=false"], unknown, "no matches for kind \"Nothing\"");
    machine.stop(nix::sys::signal::Signal::SIGTERM);
    machine.killall();
}

#[test]
fn an_old_nft_is_told_with_what_helps() {
    let machine = Machine::apart();
    let old = machine.path("nft");
    std::fs::write(&old, "#!/bin/sh\necho 'nftables v0.9.8 (E.D.S.)'\n").unwrap();
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();
    machine.run("mount", &["--bind", old.to_str().unwrap(), "/usr/sbin/nft"]);
    let output = machine.second_server(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("1.0.1 or later is needed: update the package nftables"), "{said}");
}
