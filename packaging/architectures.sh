# shellcheck shell=bash disable=SC2034
# Sourced by static.sh and package.sh, which use what it sets.

# What Rust, Debian, GNU and musl call an architecture.
names() {
  case $1 in
    amd64) rust=x86_64-unknown-linux-musl debian=amd64 gnu=x86_64-linux-gnu musl=x86_64-linux-musl ;;
    arm64) rust=aarch64-unknown-linux-musl debian=arm64 gnu=aarch64-linux-gnu musl=aarch64-linux-musl ;;
    arm) rust=armv7-unknown-linux-musleabihf debian=armhf gnu=arm-linux-gnueabihf musl=arm-linux-musleabihf ;;
    *) echo "$(basename "$0"): there is no kinglet for $1, but for amd64, arm64 and arm (armv7)" >&2; exit 2 ;;
  esac
}
