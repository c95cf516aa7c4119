#!/usr/bin/env bash
# Builds static executables, the same bytes from the same commit: target/static/kinglet-ARCH for each, and
# their sums. Usage: static.sh amd64|arm64|arm...
set -euo pipefail

cd "$(dirname "$0")/.."
. packaging/architectures.sh
out=target/static
# Headers of musl for other architectures, as Debian has them.
headers=/var/cache/kinglet-build

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
  # No panic passes through C.
  flags+=(-fno-asynchronous-unwind-tables -fno-unwind-tables)
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

# Rust's library for armv7, which is built here, from Rust's own source and beside Debian's musl: with 64 bits for
# the time, which Rust's build of it has not, and on what Rust calls unstable of itself (RUSTC_BOOTSTRAP).
build_library() {
  local libraries=$PWD/$out/libraries-$musl directory=$headers/usr/lib/$musl
  rustup component add rust-src
  mkdir -p "$libraries"
  # musl has neither what unwinds the stack nor what this processor lacks instructions for: GNU's compiler has.
  cp "$("$gnu-gcc" -print-file-name=libgcc_eh.a)" "$libraries/libunwind.a"
  cp "$("$gnu-gcc" -print-libgcc-file-name)" "$libraries/libgcc.a"
  export RUSTC_BOOTSTRAP=1 RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
  of_cargo=("-Zbuild-std=std,panic_unwind")
  of_rust+=("--remap-path-prefix=$(rustc --print sysroot)=rust" "-Ctarget-feature=+crt-static"
    "-Clink-self-contained=no" "-Lnative=$directory" "-Lnative=$libraries")
  of_link=("-Clink-arg=-lgcc" "-Clink-arg=$directory/crt1.o" "-Clink-arg=$directory/crti.o"
    "-Clink-arg=$directory/crtn.o")
}

build() {
  local flags
  # Given here, they are beside those of .cargo/config.toml.
  flags=$(printf "'%s'," "${of_rust[@]}")
  cargo rustc --bin kinglet --release --target "$rust" --config "target.$rust.rustflags=[$flags]" "${of_cargo[@]}" -- \
    "${of_link[@]}"
}

cargo_home=${CARGO_HOME:-$HOME/.cargo}
packaging/deps.sh static
mkdir -p "$out"
for architecture in "$@"; do
  names "$architecture"
  [ "$architecture" = amd64 ] || packaging/deps.sh "static-$architecture"
  set_compiler
  of_cargo=() of_link=()
  # No path of this machine is in the executable.
  of_rust=("--remap-path-prefix=$PWD=." "--remap-path-prefix=$cargo_home=cargo")
  # In a shell of its own: what is exported is for this architecture.
  (
    if [ "$architecture" = arm ]; then build_library; else rustup target add "$rust"; fi
    build
  )
  cp "target/$rust/release/kinglet" "$out/kinglet-$architecture"
done
(cd "$out" && sha256sum kinglet-* >sha256sums.txt)
ls -l "$out"
