#!/bin/bash
# A command with Debian 13's own Python and libraries, in the tree of tests/debian13.sh: bench/debian13.sh COMMAND...
# Needs root (or sudo). The checkout stands at /src there; nothing is written to it.
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC1090 # the packages of that tree, of which a device's are a part
packages=$(sed -n 's/^packages+\?=//p' tests/debian13.sh | tr -d '\n')
tree=$PWD/build/cache/debian13-$(sha256sum <<<"$packages" | cut -c1-16)
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
tests/debian13-tree.sh "$tree" "$packages"
# shellcheck disable=SC2016 # expanded inside
exec $sudo unshare --mount --propagation private sh -c '
    set -eu
    tree=$1 source_tree=$2
    shift 2
    mkdir -p "$tree/src"
    mount --bind "$source_tree" "$tree/src"
    for place in dev sys; do mount --rbind "/$place" "$tree/$place"; done
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/tmp"
    exec chroot "$tree" env HOME=/tmp PYTHONDONTWRITEBYTECODE= PYTHONPATH=/src/client:/src/image_tools:/src \
        sh -c "cd /src && exec \"\$@\"" sh "$@"
' sh "$tree" "$PWD" "$@"
