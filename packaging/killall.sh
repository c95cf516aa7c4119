#!/bin/sh
# Stops kinglet on this machine, with all pods, and removes what they have: processes, mounts, interfaces,
# rules and cgroups. The data stays: `systemctl start kinglet` brings everything back.
set -eu

# Filled in by install.sh.
bin_dir=/usr/local/bin
systemd_dir=/etc/systemd/system

has() { command -v "$1" >/dev/null 2>&1; }

# The services of kinglet that are installed.
services() {
  for file in "$systemd_dir"/kinglet*.service /lib/systemd/system/kinglet*.service \
    /usr/lib/systemd/system/kinglet*.service /etc/init.d/kinglet*; do
    [ -f "$file" ] || continue
    file=${file##*/}
    echo "${file%.service}"
  done | sort -u
}

stop() {
  if [ -f "/etc/init.d/$1" ] && has rc-service; then
    rc-service --quiet --ifstarted "$1" stop
  elif has systemctl && [ -d /run/systemd/system ]; then
    systemctl stop "$1.service"
  fi
}

# Removes the pods of each data directory: those that services name in what install.sh wrote for them.
remove_pods() {
  found=
  for file in "$systemd_dir"/kinglet*.service.env /etc/kinglet/*.env; do
    [ -f "$file" ] || continue
    found=true
    remove_pods_of "$file"
  done
  [ -n "$found" ] || "$bin_dir/kinglet" killall
}

remove_pods_of() (
  set -a
  # shellcheck disable=SC1090
  . "$1"
  set +a
  # Each word was quoted for this.
  eval "set -- $(sed -n 's/^# command: //p' "$1")"
  exec "$bin_dir/kinglet" killall -- "$@"
)

main() {
  if [ "$(id -u)" != 0 ]; then
    echo "Only root can do that:  sudo $0" >&2
    exit 1
  fi
  for service in $(services); do stop "$service"; done
  remove_pods
}

main "$@"
