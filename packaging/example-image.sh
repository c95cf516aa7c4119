#!/usr/bin/env bash
# Makes an image of examples/ out of Debian's busybox-static and other programs of this machine, as a
# docker archive.
# Usage: example-image.sh FILE [NAME [PROGRAM...]]
set -euo pipefail

out=$(realpath "${1:?file to write}")
name=${2:-docker.io/library/hello:1}
programs=("${@:3}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/root/{bin,www,tmp,etc} "$work/image"
install -m 755 "$(command -v busybox)" "$work/root/bin/busybox"
for applet in sh cat ls sleep touch test echo httpd wget hostname ps kill env id mount true false \
  head tail date tar stty tty sha256sum; do
  ln -s busybox "$work/root/bin/$applet"
done
for program in "${programs[@]}"; do
  path=$(realpath "$(command -v "$program")")
  install -m 755 "$path" "$work/root/bin/$program"
  # What a dynamic one loads; a static one has nothing to say here.
  libraries=$(ldd "$path" 2>/dev/null | grep -o '/[^ ]*' || true)
  for library in $libraries; do install -D -m 755 "$library" "$work/root$library"; done
done
printf 'root:x:0:0:root:/:/bin/sh\n' >"$work/root/etc/passwd"
printf '<h1>Hello from kinglet</h1>\n' >"$work/root/www/index.html"

tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work/root" -cf "$work/image/layer.tar" .
layer=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=arm ;; esac
cat >"$work/image/config.json" <<JSON
{"architecture":"$arch","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["httpd","-f","-v","-p","8080","-h","/www"]},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created_by":"example-image.sh"}]}
JSON
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$name" >"$work/image/manifest.json"
tar --sort=name --owner=0 --group=0 --mtime=@0 -C "$work/image" -cf "$out" manifest.json config.json layer.tar
