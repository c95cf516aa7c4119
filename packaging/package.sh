#!/usr/bin/env bash
# Packs the static executables of target/static into what is released, target/release-files: each as a tarball and a
# Debian package, with what it is made of (CycloneDX), the installer and the sums of all. The same bytes from the same
# commit. Usage: package.sh amd64|arm64|arm...
set -euo pipefail

cd "$(dirname "$0")/.."
. packaging/architectures.sh
static=target/static
out=target/release-files
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# All files are as old as the commit.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# put FILE DIRECTORY [MODE]
put() { install -D -m "${3:-644}" "$1" "$2/$(basename "$1")"; }

pack_tarball() {
  local name=kinglet-$version-$1 room
  room=$(mktemp -d)
  install -D -m 755 "$static/kinglet-$1" "$room/$name/kinglet"
  put README.md "$room/$name"
  put LICENSE "$room/$name"
  put "$out/kinglet-$1.cdx.json" "$room/$name"
  tar -C "$room" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
    gzip -n9 >"$out/$name.tar.gz"
  rm -rf "$room"
}

# The units as they are, but for the place of the executable. Nothing starts: whether this machine is a server or an
# agent is not known.
pack_deb() {
  local room unit
  room=$(mktemp -d)
  chmod 755 "$room"
  install -D -m 755 "$static/kinglet-$1" "$room/usr/bin/kinglet"
  for unit in systemd/*.service; do
    put "$unit" "$room/lib/systemd/system"
    sed -i -e 's|^ExecStart=/usr/local/bin/|ExecStart=/usr/bin/|' \
      -e 's|^EnvironmentFile=-.*/|EnvironmentFile=-/etc/default/|' "$room/lib/systemd/system/$(basename "$unit")"
  done
  install -D -m 644 LICENSE "$room/usr/share/doc/kinglet/copyright"
  put README.md "$room/usr/share/doc/kinglet"
  mkdir "$room/DEBIAN"
  cat >"$room/DEBIAN/control" <<CONTROL
Package: kinglet
Version: $version
Architecture: $debian
Maintainer: the founders of kinglet <kinglet@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -k -s --apparent-size "$room/usr" | cut -f 1)
Depends: containerd, runc | crun, nftables
Description: whole Kubernetes in one process
 API server, store, controllers, scheduler, node agent, container runtime, pod network,
 Services, DNS, ingress and storage. After the installation: systemctl enable --now kinglet
 (or kinglet-agent, with KINGLET_URL and KINGLET_TOKEN in /etc/default/kinglet-agent.service.env).
CONTROL
  find "$room" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$room" "$out/kinglet_${version}_$debian.deb" >/dev/null
  rm -rf "$room"
}

rm -rf "$out"
mkdir -p "$out"
for architecture in "$@"; do
  names "$architecture"
  put "$static/kinglet-$architecture" "$out" 755
  packaging/sbom.py "$rust" "$version" >"$out/kinglet-$architecture.cdx.json"
  pack_tarball "$architecture"
  pack_deb "$architecture"
done
put packaging/install.sh "$out" 755
(cd "$out" && sha256sum -- kinglet* install.sh >sha256sums.txt)
ls -l "$out"
