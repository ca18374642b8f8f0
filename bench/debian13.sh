#!/bin/bash
# A command with Debian 13's own Python, libraries and peers, in a tree entered with chroot: bench/debian13.sh COMMAND...
# It has what the tree of tests/debian13.sh has, and what bench/apt-packages.txt names. Needs root (or sudo). The checkout
# stands at /src there, and the images and reports of the bench below it as on the host.
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC1090 # the packages of that tree, of which a device's are a part
packages=$(sed -n 's/^packages+\?=//p' tests/debian13.sh | tr -d '\n')
packages+=$(sed -n 's/^\([a-z0-9][^ #]*\).*/,\1/p' bench/apt-packages.txt | tr -d '\n')
tree=$PWD/build/cache/debian13-$(sha256sum <<<"$packages" | cut -c1-16)
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
tests/debian13-tree.sh "$tree" "$packages"
# shellcheck disable=SC2016 # expanded inside
exec $sudo unshare --mount --propagation private sh -c '
    set -eu
    tree=$1 source_tree=$2 commit=$3
    shift 3
    mkdir -p "$tree/src"
    mount --bind "$source_tree" "$tree/src"
    for place in dev sys; do mount --rbind "/$place" "$tree/$place"; done
    for place in etc/apt var/lib/apt/lists; do mount --bind "/$place" "$tree/$place"; done # the mirrors of the host
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/tmp"
    exec chroot "$tree" env HOME=/tmp BENCH_COMMIT="$commit" PYTHONDONTWRITEBYTECODE= PYTHONPATH=/src/client:/src/image_tools:/src/qemu:/src \
        sh -c "cd /src && exec \"\$@\"" sh "$@"
' sh "$tree" "$PWD" "$(git rev-parse HEAD)" "$@"
