#!/usr/bin/env bash
# Installs what a task needs and the host lacks. Usage: deps.sh run|test|bench|static|static-arm64|static-arm|vm
set -euo pipefail

task=${1:?run, test, bench, static or vm}
# Where Debian keeps nft and ip; a plain user's PATH does not have it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# The kubectl of Debian 12 beside the host's own, for the tests: it speaks to servers as it did years ago.
old_kubectl=/var/cache/kinglet-tests/kubectl-1.20
# The Python client, for the tests, as its requirements name it.
python=/var/cache/kinglet-tests/python
requirements=$(dirname "$0")/../tests/cluster/clients/python/requirements.txt

# qemu beside the host's own, for the virtual machines: unpacked, since installing it fails where another
# version of qemu-utils is.
qemu=/var/cache/kinglet-tests/qemu

# program:package
build=(cc:gcc libc:libc6-dev)
run=("${build[@]}" containerd-shim-runc-v2:containerd runc:runc nft:nftables busybox:busybox-static
  kubectl:kubernetes-client curl:curl)
test=("${run[@]}" ip:iproute2 nsenter:util-linux docker-registry:docker-registry htpasswd:apache2-utils
  cni:containernetworking-plugins faketime:libfaketime venv:python3-venv shellcheck:shellcheck)
# What the ingress is measured with and beside.
bench=("${test[@]}" wrk:wrk nginx:nginx-light haproxy:haproxy)
static=("${build[@]}" musl-gcc:musl-tools)
static_arm64=(aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu kernel-arm64:linux-libc-dev-arm64-cross)
static_arm=(arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf kernel-arm:linux-libc-dev-armhf-cross)
vm=("${static[@]}" python3:python3 mmdebstrap:mmdebstrap mke2fs:e2fsprogs busybox:busybox-static setpriv:util-linux)
case $task in
  run) wanted=("${run[@]}") ;;
  test) wanted=("${test[@]}") ;;
  bench) wanted=("${bench[@]}") ;;
  static) wanted=("${static[@]}") ;;
  static-arm64) wanted=("${static_arm64[@]}") ;;
  static-arm) wanted=("${static_arm[@]}") ;;
  vm) wanted=("${vm[@]}") ;;
  *) echo "deps.sh: unknown task $task" >&2; exit 2 ;;
esac
case $task in run | static* | vm) old_kubectl='' python='' ;; esac
case $task in vm) ;; *) qemu='' ;; esac

is_there() {
  case $1 in
    # What the C compiler needs beside itself.
    libc) printf 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null ;;
    kernel-arm) [ -d /usr/arm-linux-gnueabihf/include/linux ] ;;
    kernel-arm64) [ -d /usr/aarch64-linux-gnu/include/linux ] ;;
    # Plugins are not on the path of programs.
    cni) [ -x /usr/lib/cni/bridge ] ;;
    # Only the library: what it does is asked for by the tests themselves.
    faketime) [ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1" ] ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    # A dynamic busybox cannot run in an image of its own.
    busybox) [ -f /usr/share/doc/busybox-static/copyright ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

install_packages() {
  echo "Installing: $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Daemons that these packages bring are not started: only their programs are used.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

fetch_old_kubectl() {
  local room
  room=$(mktemp -d)
  (
    cd "$room"
    apt-get -qq -o APT::Sandbox::User=root download kubernetes-client 2>/dev/null ||
      { apt-get update -qq; apt-get -qq -o APT::Sandbox::User=root download kubernetes-client; }
    dpkg-deb -x kubernetes-client_*.deb .
    install -D -m 755 usr/bin/kubectl "$old_kubectl"
  )
  rm -rf "$room"
}

# The program, its files and its firmware unpacked, and the libraries that it needs installed.
fetch_qemu() {
  local room libraries
  mapfile -t libraries < <(apt-cache depends --no-recommends --no-suggests qemu-system-x86 |
    sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
  install_packages "${libraries[@]}"
  room=$(mktemp -d)
  (
    cd "$room"
    apt-get -qq -o APT::Sandbox::User=root download qemu-system-x86 qemu-system-common qemu-system-data seabios
    rm -rf "$qemu" "$qemu.unfinished"
    for package in *.deb; do dpkg-deb -x "$package" "$qemu.unfinished"; done
    mv "$qemu.unfinished" "$qemu"
  )
  rm -rf "$room"
}

# Whether the Python client is there as it is asked for now.
has_python() { cmp -s "$requirements" "$python/requirements.txt"; }

fetch_python() {
  rm -rf "$python"
  python3 -m venv "$python"
  "$python/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$python/requirements.txt"
}

missing=()
for entry in "${wanted[@]}"; do
  is_there "${entry%%:*}" || missing+=("${entry##*:}")
done
lacks=${missing[*]}
if [ -n "$old_kubectl" ] && [ ! -x "$old_kubectl" ]; then lacks="$lacks $old_kubectl"; fi
if [ -n "$python" ] && ! has_python; then lacks="$lacks $python"; fi
if [ -n "$qemu" ] && [ ! -d "$qemu" ]; then lacks="$lacks $qemu"; fi
[ -n "$lacks" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "This host lacks: $lacks (Debian's package names). Install them and try again." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "This host lacks: $lacks. Run:  sudo $0 $task" >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
if [ -n "$old_kubectl" ] && [ ! -x "$old_kubectl" ]; then fetch_old_kubectl; fi
if [ -n "$python" ] && ! has_python; then fetch_python; fi
if [ -n "$qemu" ] && [ ! -d "$qemu" ]; then fetch_qemu; fi
