#!/usr/bin/env python3
"""Says what an executable is made of: a bill of materials in CycloneDX 1.5, on standard output.

Usage: sbom.py TARGET VERSION, with Rust's name of the target. Only what is compiled into the executable is in it, not
what builds or tests it. The same tree gives the same bytes.
"""

import json
import subprocess
import sys


def metadata(target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def linked(target):
    """Name and version of every package that the executable has code of: metadata knows no difference between a crate
    as it is built for a build script and for the executable, and this does."""
    command = ["cargo", "tree", "--locked", "--target", target, "--edges", "normal,no-proc-macro", "--prefix", "none"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines)}


def component(package, sums):
    name, version = package["name"], package["version"]
    told = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        told["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (name, version) in sums:
        told["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        told["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return told


def checksums():
    """What Cargo.lock says of the archives that crates came in."""
    sums, name, version = {}, None, None
    with open("Cargo.lock", encoding="utf-8") as lock:
        for line in lock:
            key, _, value = line.strip().partition(" = ")
            value = value.strip('"')
            if key == "name":
                name = value
            elif key == "version":
                version = value
            elif key == "checksum":
                sums[name, version] = value
    return sums


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    target, version = sys.argv[1:]
    resolved, names = metadata(target), linked(target)
    packages = {it["id"]: it for it in resolved["packages"] if (it["name"], it["version"]) in names}
    nodes = {node["id"]: node for node in resolved["resolve"]["nodes"]}
    root, sums = resolved["resolve"]["root"], checksums()
    reference = {id: f"pkg:cargo/{it['name']}@{it['version']}" for id, it in packages.items()}
    own = {"type": "application", "bom-ref": reference[root], "name": "kinglet", "version": version}
    libraries = sorted((it for id, it in packages.items() if id != root), key=lambda it: (it["name"], it["version"]))
    dependencies = [
        {"ref": reference[id], "dependsOn": sorted({reference[to["pkg"]] for to in nodes[id]["deps"]
                                                    if to["pkg"] in packages})}
        for id in sorted(packages, key=reference.get)
    ]
    print(json.dumps({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": own},
        "components": [component(it, sums) for it in libraries],
        "dependencies": dependencies,
    }, indent=1))


main()
