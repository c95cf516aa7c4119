#!/usr/bin/env bash
# Builds static executables, the same bytes from the same commit: target/static/kinglet-ARCH for each, and
# their sums. Usage: static.sh amd64|arm64...
set -euo pipefail

cd "$(dirname "$0")/.."
out=target/static
# Headers of musl for other architectures, as Debian has them.
headers=/var/cache/kinglet-build

# What Rust, Debian, GNU and musl call an architecture.
names() {
  case $1 in
    amd64) rust=x86_64-unknown-linux-musl debian=amd64 gnu=x86_64-linux-gnu musl=x86_64-linux-musl ;;
    arm64) rust=aarch64-unknown-linux-musl debian=arm64 gnu=aarch64-linux-gnu musl=aarch64-linux-musl ;;
    *) echo "static.sh: there is no kinglet for $1, but for amd64 and arm64" >&2; exit 2 ;;
  esac
}

# Debian's musl-dev for another architecture, without this host having that architecture.
fetch_headers() {
  local room
  [ -d "$headers/usr/include/$musl" ] && return
  room=$(mktemp -d)
  mkdir -p "$room/lists/partial" "$headers"
  (
    cd "$room"
    apt=(apt-get -qq -o APT::Sandbox::User=root -o "Dir::State::lists=$room/lists" -o Dir::Cache::pkgcache=
      -o Dir::Cache::srcpkgcache= -o "APT::Architecture=$debian" -o "APT::Architectures=$debian")
    "${apt[@]}" update || echo "Not every list of packages could be fetched." >&2
    "${apt[@]}" download musl-dev
    dpkg-deb -x musl-dev_*.deb "$headers"
  )
  rm -rf "$room"
}

# Tells the C parts of dependencies whom they are for: GNU's compiler, with musl's headers and then the kernel's.
set_compiler() {
  local flags=("-ffile-prefix-map=$PWD=." "-ffile-prefix-map=$cargo_home=cargo")
  if [ "$debian" != amd64 ]; then
    fetch_headers
    flags+=(-nostdinc -isystem "$headers/usr/include/$musl" -isystem "$("$gnu-gcc" -print-file-name=include)"
      -isystem "/usr/$gnu/include")
    export "CC_${rust//-/_}=$gnu-gcc" "AR_${rust//-/_}=$gnu-ar"
  fi
  # Beside what .cargo/config.toml has for all who build.
  local configured
  configured=$(sed -n "s/^CFLAGS_${rust//-/_} = \"\(.*\)\"/\1/p" .cargo/config.toml)
  export "CFLAGS_${rust//-/_}=$configured ${flags[*]}"
}

cargo_home=${CARGO_HOME:-$HOME/.cargo}
packaging/deps.sh static
mkdir -p "$out"
for architecture in "$@"; do
  names "$architecture"
  rustup target add "$rust"
  [ "$architecture" = amd64 ] || packaging/deps.sh "static-$architecture"
  set_compiler
  # No path of this machine is in the executable. Given here, they are beside those of .cargo/config.toml.
  cargo build --release --target "$rust" --config "target.$rust.rustflags=['--remap-path-prefix=$PWD=.', \
'--remap-path-prefix=$cargo_home=cargo']"
  cp "target/$rust/release/kinglet" "$out/kinglet-$architecture"
done
(cd "$out" && sha256sum kinglet-* >sha256sums.txt)
ls -l "$out"
