#!/bin/sh
# Removes kinglet from this machine: its services, pods, data and configuration, and the executable.
# With the name of a service, that one alone where there are others.
set -eu

# Filled in by install.sh.
bin_dir=/usr/local/bin
systemd_dir=/etc/systemd/system

has() { command -v "$1" >/dev/null 2>&1; }
fail() {
  echo "kinglet: $*" >&2
  exit 1
}
runs_systemd() { has systemctl && [ -d /run/systemd/system ]; }

# The services that install.sh has made.
services() {
  for file in "$systemd_dir"/kinglet*.service /etc/init.d/kinglet*; do
    [ -f "$file" ] || continue
    file=${file##*/}
    echo "${file%.service}"
  done | sort -u
}

environment_of() {
  for file in "$systemd_dir/$1.service.env" "/etc/kinglet/$1.env"; do
    if [ -f "$file" ]; then echo "$file"; fi
  done
}

stop() {
  if [ -f "/etc/init.d/$1" ] && has rc-service; then
    rc-service --quiet --ifstarted "$1" stop
  elif runs_systemd; then
    systemctl stop "$1.service"
  fi
}

# Pods with all they have, data, logs of pods and the kubeconfig, wherever this service has them.
purge() (
  file=$(environment_of "$1")
  if [ -z "$file" ]; then exec "$bin_dir/kinglet" killall --purge; fi
  set -a
  # shellcheck disable=SC1090
  . "$file"
  set +a
  # Each word was quoted for this.
  eval "set -- $(sed -n 's/^# command: //p' "$file")"
  exec "$bin_dir/kinglet" killall --purge -- "$@"
)

remove_service() {
  if has systemctl && [ -f "$systemd_dir/$1.service" ]; then
    systemctl disable --quiet "$1.service" 2>/dev/null || true
  fi
  if has rc-update && [ -f "/etc/init.d/$1" ]; then
    rc-update --quiet delete "$1" default 2>/dev/null || true
  fi
  rm -f "$systemd_dir/$1.service" "$systemd_dir/multi-user.target.wants/$1.service" \
    "$systemd_dir/$1.service.env" "/etc/init.d/$1" "/etc/kinglet/$1.env" "/etc/logrotate.d/$1" \
    "/var/log/$1.log" "/run/kinglet/restart-$1"
  rm -rf "$systemd_dir/$1.service.d"
  if runs_systemd; then
    systemctl daemon-reload
    systemctl reset-failed "$1.service" 2>/dev/null || true
  fi
}

# What is of all services.
remove_rest() {
  rm -rf /etc/kinglet "$bin_dir"/.kinglet-install.*
  rmdir /run/kinglet 2>/dev/null || true
  rm -f "$bin_dir/kinglet-killall.sh" "$bin_dir/kinglet" "$bin_dir/kinglet-uninstall.sh"
}

main() {
  [ "$(id -u)" = 0 ] || fail "only root can do that:  sudo $0"
  known=$(services)
  if [ $# = 0 ]; then
    # shellcheck disable=SC2086
    set -- $known
    [ $# -le 1 ] || fail "there are several services, say which:  $0 $*"
  fi
  for service in "$@"; do
    printf '%s\n' "$known" | grep -qxF -e "$service" || fail "there is no service $service; there are: $known"
  done
  for service in "$@"; do stop "$service"; done
  # Data of a service that was never made, as of an executable that was installed alone.
  [ $# -gt 0 ] || set -- kinglet
  for service in "$@"; do
    if [ -x "$bin_dir/kinglet" ]; then
      purge "$service" || fail "not all of $service could be removed; nothing else was, so that this can be run again"
    fi
    remove_service "$service"
  done
  if [ -z "$(services)" ]; then
    remove_rest
    echo "kinglet: nothing of it is left"
  fi
}

# The last line: the script may be gone when this has ended.
{ main "$@"; exit; }
