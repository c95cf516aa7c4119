#!/bin/sh
# Installs kinglet as a service: fetches the executable for this machine, checks it, installs it with its
# unit and its scripts, and starts it. Run again, it upgrades or reconfigures.
#
#   curl -sfL URL/install.sh | INSTALL_KINGLET_URL=URL sh -                          a server
#   curl -sfL URL/install.sh | INSTALL_KINGLET_URL=URL sh -s - --disable ingress     a server, with a flag
#   curl -sfL URL/install.sh | INSTALL_KINGLET_URL=URL KINGLET_URL=https://server:6443 KINGLET_TOKEN=K10... sh -
#                                                                                    an agent
#   INSTALL_KINGLET_PATH=./kinglet-amd64 sh ./install.sh                             without a network
#
# What is said after `sh -s -` is kinglet's command line, and all variables KINGLET_* become the service's
# environment. Where neither is said, a service that is there keeps what it has: that is an upgrade. Where
# one of them is, it gets what is said now and nothing else. Variables of the installer:
#
#   INSTALL_KINGLET_URL            where kinglet-ARCH and sha256sums.txt are: https://, http:// or file://
#   INSTALL_KINGLET_VERSION        they are in the directory of this name there
#   INSTALL_KINGLET_PATH           in place of a URL: a directory with both, or the executable itself, whose sum is
#                                  looked for in PATH.sha256 and in sha256sums.txt beside it
#   INSTALL_KINGLET_EXEC           kinglet's command line, before what is said after `sh -s -`
#   INSTALL_KINGLET_NAME           the service is called kinglet-NAME [kinglet; of an agent kinglet-agent]
#   INSTALL_KINGLET_BIN_DIR        where the executable and the scripts go [/usr/local/bin]
#   INSTALL_KINGLET_SYSTEMD_DIR    where units go [/etc/systemd/system]
#   INSTALL_KINGLET_SKIP_DOWNLOAD  true: the executable is in its place already
#   INSTALL_KINGLET_SKIP_ENABLE    true: neither starts with the machine nor now
#   INSTALL_KINGLET_SKIP_START     true: does not start now
#   INSTALL_KINGLET_SKIP_PACKAGES  true: packages that this host lacks are named and not installed
#   INSTALL_KINGLET_SKIP_CHECK     true: installs although `kinglet check` finds something missing
#   INSTALL_KINGLET_FORCE_RESTART  true: restarts the service although nothing has changed
#
# Everything is fetched and checked before the first file is changed, and each file is replaced in one step.
set -eu

# Ranges of letters are those of ASCII.
LC_ALL=C
export LC_ALL
newline='
'

say() { echo "kinglet: $*"; }
warn() { echo "kinglet: $*" >&2; }
fail() {
  warn "$*"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
is_true() { case ${1:-} in true | 1 | yes) ;; *) return 1 ;; esac }

# Whether the text is one word for a shell and for a unit as it is.
is_plain() { case $1 in '' | *[!A-Za-z0-9._/:=,@+-]*) return 1 ;; esac }

# The text as one word of a shell.
for_shell() {
  if is_plain "$1"; then printf '%s' "$1"; else printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; fi
}

# The text as one word of ExecStart= (systemd.service(5), "Command lines").
for_unit() {
  if is_plain "$1"; then
    printf '%s' "$1"
  else
    printf '"%s"' "$(printf '%s' "$1" | sed -e 's/[\\"]/\\&/g' -e 's/[$]/$$/g' -e 's/%/%%/g')"
  fi
}

# The text between double quotes, as both systemd (systemd.exec(5), EnvironmentFile=) and a shell read it.
for_environment() { printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"$`]/\\&/g')"; }

# What comes in, with lines KEY=... replaced by those lines of `fills` that begin so.
filled() {
  fills=$1 awk '
    BEGIN {
      count = split(ENVIRON["fills"], lines, "\n")
      for (i = 1; i <= count; i++) { key = lines[i]; sub(/=.*/, "", key); fill[key] = lines[i] }
    }
    { key = $0; sub(/=.*/, "", key) }
    index($0, "=") && key in fill { print fill[key]; next }
    { print }'
}

find_host() {
  [ "$(id -u)" = 0 ] || fail "only root can install it; run:  curl -sfL ... | sudo VARIABLE=... sh -s - ..."
  case $(uname -m) in
    x86_64 | amd64) architecture=amd64 ;;
    aarch64 | arm64) architecture=arm64 ;;
    armv7* | armv8l) architecture=arm ;;
    *) fail "there is kinglet for x86_64, aarch64 and armv7, and this machine is $(uname -m)" ;;
  esac
  bin_dir=${INSTALL_KINGLET_BIN_DIR:-/usr/local/bin}
  systemd_dir=${INSTALL_KINGLET_SYSTEMD_DIR:-/etc/systemd/system}
  for directory in "$bin_dir" "$systemd_dir"; do
    case $directory in /*) ;; *) fail "'$directory' is not an absolute path" ;; esac
    is_plain "$directory" || fail "'$directory' has other characters than letters, digits and ._/:=,@+-"
  done
  case ${INSTALL_KINGLET_NAME:-} in
    *[!A-Za-z0-9_-]*) fail "INSTALL_KINGLET_NAME has other characters than letters, digits, - and _" ;;
  esac
  has sha256sum || has openssl || fail "neither sha256sum nor openssl is here to check what is fetched"
  is_running=
  if [ -d /run/systemd/system ] || { has systemctl && ! [ -x /sbin/openrc-run ]; }; then
    manager=systemd
    if [ -d /run/systemd/system ]; then is_running=true; fi
  elif [ -x /sbin/openrc-run ]; then
    manager=openrc
    if [ -d /run/openrc ]; then is_running=true; fi
  elif is_true "${INSTALL_KINGLET_SKIP_ENABLE:-}"; then
    manager=none
  else
    fail "neither systemd nor openrc is here; INSTALL_KINGLET_SKIP_ENABLE=true installs the executable and its \
scripts, and \`kinglet server\` is what an init script of yours then runs"
  fi
}

# The variables of this process that are kinglet's.
variables() {
  env | sed -n -e 's/^\(KINGLET_[A-Za-z0-9_]*\)=.*/\1/p' | sort -u | while read -r variable; do
    # A line of another variable's value may look like one.
    if eval "[ -n \"\${$variable+set}\" ]"; then echo "$variable"; fi
  done
}

service_environment() {
  case $manager in
    systemd) echo "$systemd_dir/$1.service.env" ;;
    *) echo "/etc/kinglet/$1.env" ;;
  esac
}

# The words of a service's command line, each quoted for a shell, as this script wrote them.
known_command() { sed -n 's/^# command: //p' "$1"; }

# Sets `name`, `words` (of the command line, each quoted for a shell) and `environment` (the text of a file).
find_service() {
  for word in "${INSTALL_KINGLET_EXEC:-}" "$@"; do
    case $word in *"$newline"*) fail "kinglet's command line has several lines: $word" ;; esac
  done
  before=$(split_words "${INSTALL_KINGLET_EXEC:-}") || fail "INSTALL_KINGLET_EXEC has a quote that does not end"
  if [ -n "$before" ]; then
    count=$#
    while IFS= read -r word; do set -- "$@" "$word"; done <<WORDS
$before
WORDS
    # What was there first goes behind that.
    while [ "$count" -gt 0 ]; do
      word=$1
      shift
      set -- "$@" "$word"
      count=$((count - 1))
    done
  fi
  if [ $# = 0 ] && [ -z "$(variables)" ]; then
    find_known_service && return
  fi
  case ${1:-} in
    server | agent) role=$1; shift ;;
    '' | -*) if [ -n "${KINGLET_URL:-}" ]; then role=agent; else role=server; fi ;;
    *) fail "'$1' is neither \`server\` nor \`agent\` nor a flag" ;;
  esac
  name=$(name_of "$role")
  take_token "$@"
  environment=$(
    printf '# Of the service %s. Written by install.sh: what it is given next time replaces this.\n' "$name"
    printf '# command: %s\n' "$words"
    write_variables
  )
  [ "$role" = server ] || check_agent
}

# A service that is there keeps its command line and its environment where nothing else is said.
find_known_service() {
  if [ -n "${INSTALL_KINGLET_NAME:-}" ]; then
    set -- "$(name_of server)"
  else
    set -- kinglet kinglet-agent
  fi
  for name in "$@"; do
    file=$(service_environment "$name")
    if [ -f "$file" ]; then
      words=$(known_command "$file")
      environment=$(cat "$file")
      if [ -n "$words" ]; then
        say "$name keeps its settings: $file"
        return
      fi
    fi
  done
  return 1
}

name_of() {
  case ${INSTALL_KINGLET_NAME:-} in
    '') if [ "$1" = agent ]; then echo kinglet-agent; else echo kinglet; fi ;;
    *) echo "kinglet-$INSTALL_KINGLET_NAME" ;;
  esac
}

# split_words TEXT: its words a line each. Quotes hold words together.
split_words() {
  [ -z "$1" ] || printf '%s\n' "$1" | sed 's/\\/\\\\/g' | xargs -n 1 printf '%s\n' 2>/dev/null
}

# Sets `words`. A token goes to the environment: what a process is told is there for everybody to see.
take_token() {
  words=$role
  while [ $# -gt 0 ]; do
    case $role:$1 in
      agent:--token | agent:-t)
        [ $# -gt 1 ] || fail "$1 has no value"
        KINGLET_TOKEN=$2
        export KINGLET_TOKEN
        shift
        ;;
      agent:--token=*) KINGLET_TOKEN=${1#--token=} && export KINGLET_TOKEN ;;
      *) words="$words $(for_shell "$1")" ;;
    esac
    shift
  done
}

check_agent() {
  case " $words " in
    *" --server"* | *" -s "*) ;;
    *) [ -n "${KINGLET_URL:-}" ] || fail "an agent needs KINGLET_URL, the address of a server" ;;
  esac
  case ${KINGLET_URL:-https://} in
    https://*) ;;
    *) fail "KINGLET_URL is not https://NAME-OR-ADDRESS:6443: $KINGLET_URL" ;;
  esac
  if [ -n "${KINGLET_TOKEN_FILE:-}" ]; then
    [ -r "$KINGLET_TOKEN_FILE" ] || fail "KINGLET_TOKEN_FILE cannot be read: $KINGLET_TOKEN_FILE"
  fi
}

write_variables() {
  proxies=
  for variable in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    if eval "[ -n \"\${$variable:-}\" ]"; then proxies="$proxies $variable"; fi
  done
  for variable in $(variables) $proxies; do
    value=$(eval "printf '%s.' \"\$$variable\"")
    value=${value%.}
    case $value in
      *"$newline"*) warn "$variable has several lines and is left out" ;;
      *) printf '%s=%s\n' "$variable" "$(for_environment "$value")" ;;
    esac
  done
}

# download URL FILE
download() {
  case $1 in
    file://*) cp "${1#file://}" "$2" 2>/dev/null || fail "there is no ${1#file://}" ;;
    http://* | https://*)
      if has curl; then
        curl -fsSL --retry 3 --connect-timeout 20 -o "$2" "$1" || fail "$1 could not be fetched"
      elif has wget; then
        wget -q -O "$2" "$1" || fail "$1 could not be fetched"
      else
        fail "neither curl nor wget is here to fetch $1"
      fi
      ;;
    *) fail "INSTALL_KINGLET_URL begins with none of https://, http:// and file://" ;;
  esac
}

sum_of() {
  if has sha256sum; then
    sha256sum "$1" | sed 's/^\\\{0,1\}\([0-9a-f]*\).*/\1/'
  else
    openssl dgst -sha256 -r "$1" | sed 's/ .*//'
  fi
}

# sum_in FILE NAME: the sum that a list names for a file.
sum_in() { awk -v name="$2" '{ sub(/^\*/, "", $2); sub(/.*\//, "", $2) } $2 == name { print tolower($1); exit }' "$1"; }

# Where this works until everything is known to be well: executables run there, and renaming is one step.
make_room() {
  if ! [ -d "$bin_dir" ]; then
    mkdir -p "$bin_dir" || fail "$bin_dir cannot be made; INSTALL_KINGLET_BIN_DIR names another place"
    made_bin_dir=true
  fi
  rm -rf "$bin_dir"/.kinglet-install.*
  room=$(mktemp -d "$bin_dir/.kinglet-install.XXXXXX") ||
    fail "nothing can be written to $bin_dir; INSTALL_KINGLET_BIN_DIR names another place"
}

# However this ends: see the trap.
# shellcheck disable=SC2317,SC2329
clean() {
  status=$?
  trap '' INT TERM HUP
  [ -z "$room" ] || rm -rf "$room"
  for file in $pending; do rm -f "$file.new"; done
  [ -z "$made_bin_dir" ] || rmdir "$bin_dir" 2>/dev/null || true
  if [ "$status" != 0 ] && [ -z "$is_installed" ]; then warn "nothing was installed"; fi
}

# Puts the executable at $room/kinglet, once it is what its sum says and runs here.
fetch_executable() {
  file=kinglet-$architecture
  expected=
  if is_true "${INSTALL_KINGLET_SKIP_DOWNLOAD:-}"; then
    [ -x "$bin_dir/kinglet" ] || fail "INSTALL_KINGLET_SKIP_DOWNLOAD is set, and there is no $bin_dir/kinglet"
    cp "$bin_dir/kinglet" "$room/kinglet" || fail "$bin_dir/kinglet could not be copied"
  elif [ -n "${INSTALL_KINGLET_PATH:-}" ]; then
    take_local "$INSTALL_KINGLET_PATH"
  elif [ -n "${INSTALL_KINGLET_URL:-}" ]; then
    from=${INSTALL_KINGLET_URL%/}${INSTALL_KINGLET_VERSION:+/$INSTALL_KINGLET_VERSION}
    download "$from/sha256sums.txt" "$room/sums"
    expected=$(sum_in "$room/sums" "$file")
    [ -n "$expected" ] || fail "$from/sha256sums.txt has no sum of $file"
    if [ -f "$bin_dir/kinglet" ] && [ "$(sum_of "$bin_dir/kinglet")" = "$expected" ]; then
      say "$bin_dir/kinglet is $from/$file already"
      cp "$bin_dir/kinglet" "$room/kinglet" || fail "$bin_dir/kinglet could not be copied"
    else
      say "fetching $from/$file"
      download "$from/$file" "$room/kinglet"
    fi
  else
    fail "say where kinglet is: INSTALL_KINGLET_URL, or INSTALL_KINGLET_PATH for a file on this machine"
  fi
  if [ -n "$expected" ]; then
    actual=$(sum_of "$room/kinglet")
    [ "$actual" = "$expected" ] || fail "$file is damaged: its SHA-256 is $actual and should be $expected"
  fi
  chmod 755 "$room/kinglet"
  version=$("$room/kinglet" version) || fail "the executable does not run on this machine ($(uname -m))"
}

# take_local PATH: an executable on this machine, or a directory with those of all kinds.
take_local() {
  if [ -d "$1" ]; then
    source=${1%/}/$file
    [ -f "${1%/}/sha256sums.txt" ] || fail "$1 has no sha256sums.txt"
  else
    source=$1
  fi
  [ -f "$source" ] || fail "there is no $source"
  if [ -f "$source.sha256" ]; then
    expected=$(sed -n '1s/^\([0-9A-Fa-f]*\).*/\1/p' "$source.sha256" | tr A-F a-f)
  elif [ -f "${source%/*}/sha256sums.txt" ] && [ "$source" != "${source%/*}" ]; then
    expected=$(sum_in "${source%/*}/sha256sums.txt" "${source##*/}")
  fi
  if [ -z "$expected" ]; then
    ! [ -d "$1" ] || fail "$1/sha256sums.txt has no sum of $file"
    warn "nothing says what the sum of $source is: it is taken as it is"
  fi
  cp "$source" "$room/kinglet" || fail "$source could not be copied"
}

# Whether the service is to run when this has ended.
starts() { ! is_true "${INSTALL_KINGLET_SKIP_START:-}" && ! is_true "${INSTALL_KINGLET_SKIP_ENABLE:-}"; }

# Installs the packages that this host lacks. Refuses where it then still lacks what kinglet cannot do without.
prepare_host() {
  if is_true "${INSTALL_KINGLET_SKIP_CHECK:-}"; then return; fi
  if ! is_true "${INSTALL_KINGLET_SKIP_PACKAGES:-}"; then install_packages; fi
  # It fails where something is missing; warnings are for reading.
  if lacks=$("$room/kinglet" check); then is_missing=; else is_missing=true; fi
  lacks=$(printf '%s\n' "$lacks" | sed '/^ok /d')
  if [ -n "$lacks" ]; then printf '%s\n' "$lacks" >&2; fi
  if [ -n "$is_missing" ] && starts; then
    fail "this host lacks what is said above; INSTALL_KINGLET_SKIP_CHECK=true installs it all the same"
  fi
}

install_packages() {
  if has apt-get; then
    family=debian
  elif has apk; then
    family=alpine
  elif has dnf; then
    family=fedora
  else
    return 0
  fi
  packages=$("$room/kinglet" check --packages "$family") || packages=
  [ -n "$packages" ] || return 0
  # Names of packages are words of their own.
  # shellcheck disable=SC2086
  set -- $packages
  say "installing packages: $*"
  case $family in
    debian) install_with_apt "$@" ;;
    alpine) apk add --quiet "$@" </dev/null ;;
    fedora) dnf install -y -q "$@" </dev/null ;;
  esac || fail "these packages could not be installed: $*; INSTALL_KINGLET_SKIP_PACKAGES=true goes on without"
}

# Debian starts and enables a daemon with its package: only containerd's shim is wanted.
install_with_apt() {
  foreign=
  if [ "$manager" = systemd ] && ! systemctl cat containerd.service >/dev/null 2>&1; then
    foreign=containerd.service
    systemctl mask --runtime --quiet "$foreign" 2>/dev/null || true
  fi
  # The list of packages may be too old, or not there yet.
  if apt_install "$@" 2>/dev/null || { apt-get update -qq </dev/null && apt_install "$@"; }; then
    installed=true
  else
    installed=
  fi
  if [ -n "$foreign" ]; then
    systemctl unmask --runtime --quiet "$foreign" 2>/dev/null || true
    systemctl disable --now --quiet "$foreign" 2>/dev/null || true
  fi
  [ -n "$installed" ]
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

# stage FILE TARGET MODE: the file is to be at the target. Where it is not there already, it waits beside it.
# Sets `is_new`.
stage() {
  is_new=
  if [ -f "$2" ] && cmp -s "$1" "$2"; then return; fi
  is_new=true
  mkdir -p "${2%/*}" || fail "${2%/*} cannot be made"
  pending="$pending $2"
  # On the file system where it is to be, so that renaming is all that is left.
  rm -f "$2.new"
  (umask 077 && cp "$1" "$2.new") || fail "$2 cannot be written"
  chmod "$3" "$2.new"
}

# Everything as it will be, beside where it will be. Sets `changed` where the service is another then.
stage_all() {
  changed=
  stage "$room/kinglet" "$bin_dir/kinglet" 755
  changed=$changed$is_new
  for script in killall uninstall; do
    packaged "$script.sh" "bin_dir=$bin_dir${newline}systemd_dir=$systemd_dir"
    stage "$room/filled" "$bin_dir/kinglet-$script.sh" 755
  done
  [ "$manager" != none ] || return 0
  environment_file=$(service_environment "$name")
  printf '%s\n' "$environment" >"$room/environment"
  stage "$room/environment" "$environment_file" 600
  changed=$changed$is_new
  case $manager in
    systemd) stage_unit ;;
    openrc) stage_openrc ;;
  esac
}

# packaged NAME FILLS: puts what the executable carries under this name at $room/filled.
packaged() {
  "$room/kinglet" packaged "$1" >"$room/carried" || fail "the executable does not carry $1"
  filled "$2" <"$room/carried" >"$room/filled"
}

stage_unit() {
  line=$(command_line "$words")
  case $words in agent*) unit=kinglet-agent.service ;; *) unit=kinglet.service ;; esac
  packaged "$unit" "ExecStart=$line${newline}EnvironmentFile=-$environment_file"
  stage "$room/filled" "$systemd_dir/$name.service" 644
  changed=$changed$is_new
}

# command_line WORDS: as ExecStart= takes it.
command_line() {
  # They were quoted for this.
  eval "set -- $1"
  printf '%s' "$bin_dir/kinglet"
  for word in "$@"; do printf ' %s' "$(for_unit "$word")"; done
}

# openrc_words WORDS: as command_args= takes them. Blanks part words there whatever is around them.
openrc_words() {
  tab=$(printf '\t')
  eval "set -- $1"
  printf '%s' "$1"
  shift
  for word in "$@"; do
    printf ' %s' "$(for_shell "$word" | sed -e "s/ /'\"\$space\"'/g" -e "s/$tab/'\"\$tab\"'/g")"
  done
}

stage_openrc() {
  packaged openrc "command=$bin_dir/kinglet${newline}command_args=$(for_shell "$(openrc_words "$words")")${newline}\
environment_file=$environment_file"
  stage "$room/filled" "/etc/init.d/$name" 755
  changed=$changed$is_new
  [ -d /etc/logrotate.d ] || return 0
  printf '/var/log/%s.log {\n  missingok\n  notifempty\n  copytruncate\n}\n' "$name" >"$room/logrotate"
  stage "$room/logrotate" "/etc/logrotate.d/$name" 644
}

# From here on nothing is left to go wrong but the machine itself.
commit() {
  trap '' INT TERM HUP
  # Whoever is interrupted before the service runs anew finds this; a reboot has it run anew.
  restart=/run/kinglet/restart-$name
  if [ -n "$changed" ]; then
    (umask 077 && mkdir -p /run/kinglet && : >"$restart") || fail "$restart cannot be written"
  fi
  # A power cut after the renaming must not find empty files.
  [ -z "$pending" ] || sync
  for file in $pending; do mv -f "$file.new" "$file"; done
  pending='' is_installed=true
  trap 'exit 1' INT TERM HUP
}

start_service() {
  case $manager in
    systemd) start_with_systemd ;;
    openrc) start_with_openrc ;;
    none) say "the executable is $bin_dir/kinglet" ;;
  esac
}

start_with_systemd() {
  if [ -n "$is_running" ]; then systemctl daemon-reload; fi
  if is_true "${INSTALL_KINGLET_SKIP_ENABLE:-}"; then return; fi
  systemctl enable --quiet "$name.service" || not_started "cannot be enabled"
  starts || return 0
  if [ -z "$is_running" ]; then
    say "systemd does not run here: $name starts with the machine"
  elif needs_start systemctl is-active --quiet "$name.service"; then
    say "starting $name"
    systemctl restart "$name.service" || not_started "did not start: \`journalctl -u $name\` says why"
    rm -f "$restart"
  fi
}

start_with_openrc() {
  if is_true "${INSTALL_KINGLET_SKIP_ENABLE:-}"; then return; fi
  rc-update add "$name" default >/dev/null || not_started "cannot be enabled"
  starts || return 0
  if [ -z "$is_running" ]; then
    say "openrc does not run here: $name starts with the machine"
  elif needs_start rc-service --quiet "$name" status; then
    say "starting $name"
    rc-service --quiet "$name" restart || not_started "did not start: /var/log/$name.log says why"
    rm -f "$restart"
  fi
}

# needs_start COMMAND...: whether there is anything to do; the command says whether the service runs.
needs_start() {
  if [ -f "$restart" ] || is_true "${INSTALL_KINGLET_FORCE_RESTART:-}"; then return 0; fi
  if "$@" >/dev/null 2>&1; then
    say "$name runs, and nothing has changed"
    return 1
  fi
}

not_started() {
  warn "$version is installed, but the service $name $1"
  exit 1
}

main() {
  room='' pending='' made_bin_dir='' is_installed=''
  trap clean EXIT
  trap 'fail interrupted' INT TERM HUP
  find_host
  find_service "$@"
  make_room
  fetch_executable
  prepare_host
  stage_all
  commit
  say "installed $version as $bin_dir/kinglet"
  start_service
  case $words in
    server*) if starts; then say "try:  KUBECONFIG=/etc/kinglet/kinglet.yaml kubectl get nodes"; fi ;;
  esac
}

# The last line: of a script that was cut off on its way, nothing is done.
{ main "$@"; exit; }
