#!/usr/bin/env bash
# Starts a cluster of one in a directory of its own, applies examples/, waits until they answer,
# says how to reach the cluster, and runs until Ctrl-C. Leaves the host as it was.
set -euo pipefail

kinglet=$(realpath "${1:?path of the executable}")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d /tmp/kinglet-run.XXXXXX)
data=$work/data
server=

clean() {
  trap '' INT TERM
  echo "Stopping."
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  "$kinglet" killall --data-dir "$data" || true
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 0' INT TERM

"$kinglet" check --data-dir "$data"
"$here/example-image.sh" "$work/hello.tar"
mkdir -p "$data/agent/images"
mv "$work/hello.tar" "$data/agent/images/"

"$kinglet" server --data-dir "$data" --write-kubeconfig "$work/kinglet.yaml" \
  --pod-logs-dir "$work/logs" --config /dev/null &
server=$!
export KUBECONFIG=$work/kinglet.yaml
alive() { kill -0 "$server" 2>/dev/null || { echo "The server ended." >&2; exit 1; }; }
for _ in $(seq 300); do
  alive
  [ -f "$KUBECONFIG" ] && kubectl get --raw /readyz >/dev/null 2>&1 && break
  sleep 0.1
done
kubectl apply -f "$here/../examples/"
kubectl rollout status deployment/hello --timeout=120s
pod=$(kubectl get pods -l app=hello -o jsonpath='{.items[0].status.podIP}')
for _ in $(seq 100); do
  alive
  curl -fsS --max-time 2 "http://$pod:8080/" && break
  sleep 0.1
done
cat <<TEXT

The cluster runs. In another terminal:

  export KUBECONFIG=$KUBECONFIG
  kubectl get pods -o wide
  curl http://$pod:8080/

Ctrl-C stops it and removes everything.
TEXT
wait "$server"
