#!/usr/bin/env bash
# Installs what a task needs and the host lacks. Usage: deps.sh run|test|static
set -euo pipefail

task=${1:?run, test or static}
# The kubectl of Debian 12 beside the host's own, for the tests: it speaks to servers as it did years ago.
old_kubectl=/var/cache/kinglet-tests/kubectl-1.20
# program:package
run=(containerd-shim-runc-v2:containerd runc:runc nft:nftables ip:iproute2 busybox:busybox-static gcc:gcc)
test=("${run[@]}" docker-registry:docker-registry htpasswd:apache2-utils nsenter:util-linux curl:curl)
static=(musl-gcc:musl-tools gcc:gcc)
case $task in
  run) wanted=("${run[@]}") ;;
  test) wanted=("${test[@]}") ;;
  static) wanted=("${static[@]}") ;;
  *) echo "deps.sh: unknown task $task" >&2; exit 2 ;;
esac

fetch_old_kubectl() {
  [ -x "$old_kubectl" ] && return
  command -v apt-get >/dev/null || { echo "This host has no apt-get: put kubectl 1.20 at $old_kubectl." >&2; exit 1; }
  local room; room=$(mktemp -d)
  (
    cd "$room"
    apt-get -qq -o APT::Sandbox::User=root download kubernetes-client 2>/dev/null ||
      { apt-get update -qq; apt-get -qq -o APT::Sandbox::User=root download kubernetes-client; }
    dpkg-deb -x kubernetes-client_*.deb .
    install -D -m 755 usr/bin/kubectl "$old_kubectl"
  )
  rm -rf "$room"
}
[ "$task" != test ] || fetch_old_kubectl

missing=()
for entry in "${wanted[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done
# A dynamic busybox cannot run in an image of its own.
if [ "$task" != static ] && [ ! -f /usr/share/doc/busybox-static/copyright ]; then missing+=(busybox-static); fi
command -v kubectl >/dev/null || [ "$task" = static ] || missing+=(kubernetes-client)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "This host lacks: ${missing[*]} (Debian's package names). Install them and try again." >&2
  exit 1
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Daemons that these packages bring are not started: only their programs are used.
printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.kinglet
if [ ! -e /usr/sbin/policy-rc.d ]; then
  install -m 755 /tmp/policy-rc.d.kinglet /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
