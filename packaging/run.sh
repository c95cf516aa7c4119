#!/usr/bin/env bash
# Starts a cluster of one in a directory of its own, applies examples/, waits until they answer,
# says how to reach the cluster, and runs until Ctrl-C. Leaves the host as it was.
# Usage: run.sh KINGLET
set -euo pipefail

kinglet=$(realpath "${1:?path of the executable}")
here=$(dirname "$(realpath "$0")")
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ "$(id -u)" != 0 ]; then
  echo "Containers need root. Run instead:  sudo $0 $1" >&2
  exit 1
fi
work=$(mktemp -d /tmp/kinglet-run.XXXXXX)
data=$work/data
server=

clean() {
  trap '' INT TERM HUP
  echo "Stopping."
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" || true
  fi
  if "$kinglet" killall --data-dir "$data"; then
    rm -rf --one-file-system "$work"
  else
    echo "Not all could be removed. Try again:  $kinglet killall --data-dir $data && rm -rf $work" >&2
  fi
}
trap clean EXIT
trap 'exit 0' INT TERM HUP

fail() { echo "$*" >&2; exit 1; }

# eventually WHAT COMMAND...: repeats the command until it succeeds, for a minute.
eventually() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    kill -0 "$server" 2>/dev/null || fail "The server ended."
    [ "$SECONDS" -lt "$deadline" ] || fail "Within a minute, $what did not answer."
    sleep 0.1
  done
}

"$kinglet" check --data-dir "$data"
mkdir -p "$data/agent/images"
"$here/example-image.sh" "$data/agent/images/hello.tar"
"$here/example-image.sh" "$data/agent/images/kubectl.tar" docker.io/library/kubectl:1 kubectl

"$kinglet" server --data-dir "$data" --write-kubeconfig "$work/kinglet.yaml" \
  --pod-logs-dir "$work/logs" --config /dev/null &
server=$!
export KUBECONFIG=$work/kinglet.yaml
api_is_ready() { [ -f "$KUBECONFIG" ] && kubectl get --raw /readyz >/dev/null 2>&1; }
page() { curl -fsS --noproxy '*' --max-time 2 "$1" 2>/dev/null; }

eventually "the API server" api_is_ready
kubectl apply -f "$here/../examples/"
for workload in deployment/hello statefulset/ledger daemonset/node-facts deployment/operator; do
  kubectl rollout status "$workload" --timeout=120s
done
kubectl wait --for=condition=Complete job/parts --timeout=120s
service=http://$(kubectl get service hello -o jsonpath='{.spec.clusterIP}')/
eventually "$service" page "$service"
# Another web server may have the ports of the ingress, which the log above says then.
node=$(kubectl get ingress hello -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
ingress=http://$node/
[ -n "$node" ] && page "$ingress" >/dev/null || ingress=
cat <<TEXT

The cluster runs. In another terminal:

  export KUBECONFIG=$KUBECONFIG
  kubectl get pods -o wide
  curl $service
${ingress:+  curl $ingress
}
Ctrl-C stops it and removes everything.
TEXT
wait "$server" || fail "The server ended."
