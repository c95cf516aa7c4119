#!/usr/bin/env bash
# Runs an API server with a static executable of target/static in a network namespace of its own, by qemu-user-static
# where this machine is of another architecture, and has kubectl work with it: objects, a controller, a restart after
# kill -9. Usage: try-static.sh amd64|arm64|arm...
set -euo pipefail

cd "$(dirname "$0")/.."
if [ -z "${KINGLET_ALONE:-}" ]; then
  KINGLET_ALONE=1 exec unshare --net -- "$0" "$@"
fi
ip link set lo up
ip address add 192.0.2.1/32 dev lo
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

fail() { echo "try-static.sh: $*" >&2; tail -20 "$work/log" >&2; exit 1; }

# How this machine runs what is for an architecture.
find_runner() {
  case $1 in
    amd64) runner=() machine=x86_64 ;;
    arm64) runner=(qemu-aarch64-static) machine=aarch64 ;;
    arm) runner=(qemu-arm-static) machine=armv7l ;;
    *) fail "there is no kinglet for $1" ;;
  esac
  [ "$(uname -m)" != "$machine" ] || runner=()
}

start() {
  rm -f "$KUBECONFIG"
  "${runner[@]}" "$kinglet" server --disable agent --data-dir "$work/data" --write-kubeconfig "$KUBECONFIG" --config /dev/null \
    --node-ip 192.0.2.1 >>"$work/log" 2>&1 &
  server=$!
  until [ -f "$KUBECONFIG" ] && kubectl get --raw /readyz >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || fail "the server ended"
    [ "$SECONDS" -lt "$deadline" ] || fail "the server did not answer in time"
    sleep 0.2
  done
}

try() {
  local began=$SECONDS
  deadline=$((SECONDS + 300))
  kinglet=$PWD/target/static/kinglet-$1
  export KUBECONFIG=$work/kinglet.yaml
  "${runner[@]}" "$kinglet" version
  start
  kubectl create deployment web --image=web:1 --replicas=3
  # Its pods are made by two controllers, and wait for a node.
  kubectl wait --for=create pod -l app=web --timeout=120s >/dev/null
  kubectl wait --for=jsonpath='{.status.replicas}'=3 deployment/web --timeout=120s
  kubectl create secret generic sealed --from-literal=word=open
  kubectl apply --server-side -f examples/ >/dev/null
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
  start
  [ "$(kubectl get secret sealed -o jsonpath='{.data.word}' | base64 -d)" = open ] || fail "what was written is not there"
  [ "$(kubectl get pods -l app=web -o name | wc -l)" = 3 ] || fail "there are not three pods"
  kill "$server"
  wait "$server" || fail "the server did not end well"
  server=
  rm -rf "$work/data"
  echo "$1: $(stat -c %s "$kinglet") bytes; seen to work in $((SECONDS - began)) s"
}

for architecture in "$@"; do
  find_runner "$architecture"
  try "$architecture"
done
