#!/bin/bash
# A command with Debian 13's own Python, libraries and peers, in a tree entered with chroot: bench/debian13.sh COMMAND...
# It has what the tree of tests/debian13.sh has, and what bench/apt-packages.txt names. Needs root (or sudo). The checkout
# stands at /src there, and the images and reports of the bench below it as on the host.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tests/debian13-common.sh
. tests/debian13-common.sh
packages+=$(sed -n 's/^\([a-z0-9][^ #]*\).*/,\1/p' bench/apt-packages.txt | tr -d '\n')
make_tree
# shellcheck disable=SC2016 # expanded inside
exec $sudo unshare --mount --propagation private sh -c '
    set -eu
    tree=$1 source_tree=$2 commit=$3
    shift 3
    . "$source_tree/tests/debian13-common.sh"
    mount_tree
    for place in etc/apt var/lib/apt/lists; do mount --bind "/$place" "$tree/$place"; done # the mirrors of the host
    exec chroot "$tree" env HOME=/tmp BENCH_COMMIT="$commit" PYTHONDONTWRITEBYTECODE= PYTHONPATH=/src/client:/src/image_tools:/src/qemu:/src \
        sh -c "cd /src && exec \"\$@\"" sh "$@"
' sh "$tree" "$source_tree" "$(git rev-parse HEAD)" "$@"
