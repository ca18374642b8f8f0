#!/bin/bash
# The bench with all that it measures from Debian 13: peers, Python and libraries, in a tree made by mmdebstrap and entered
# with chroot. bench/debian13.sh [OPTIONS of python -m bench]. Needs root; the tree is cached by the hash of its packages.
# The images are those of the build host, made before. Mender's client is not in Debian 13.
set -eu
cd "$(dirname "$0")/.."
source_tree=$PWD
packages=python3,python3-construct,python3-cryptography,python3-dbus-next,python3-numpy,python3-prometheus-client
packages+=,python3-pyelftools,python3-securesystemslib,python3-tuf,python3-urllib3,python3-zstandard
packages+=,$(sed -n '/^mender/d; s/^\([a-z0-9.+-]\+\).*/\1/p' bench/apt-packages.txt | sort -u | paste -sd,)
packages+=,git,libubootenv-tool,mount,rauc-service
key=$(sha256sum <<<"$packages" | cut -c1-16)
tree=$source_tree/build/cache/bench-debian13-$key

if [ ! -e "$tree/.complete" ]; then
    rm -rf "$tree"
    mkdir -p build/log
    .venv/bin/python -c 'from twinslot_lab import apt; print(apt.sources("trixie"), end="")' > build/bench/debian13.list
    # shellcheck disable=SC2016 # expanded there
    tests/watched.sh "Debian 13's tree for the bench" build/log/bench-debian13.log \
        'for word in Get: Unpacking "Setting up"; do printf "%s %s, " "$word" "$(grep -c "^$word" "$LOG")"; done; grep "^I: " "$LOG" | tail -n 1' \
        mmdebstrap --verbose --variant=minbase --include="$packages" --aptopt='APT::Install-Recommends "false"' \
        trixie "$tree" build/bench/debian13.list
    touch "$tree/.complete"
fi

# The checkout stands at its own path there, so that what the build host has cached is found.
# shellcheck disable=SC2016 # expanded inside
exec unshare --mount --pid --fork --kill-child sh -c '
    set -eu
    tree=$1 source_tree=$2
    shift 2
    mount --make-rprivate /
    mkdir -p "$tree$source_tree"
    mount --bind "$tree" "$tree"
    mount --rbind "$source_tree" "$tree$source_tree"
    for place in dev sys; do mount --rbind "/$place" "$tree/$place"; done
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/tmp"
    mount -t tmpfs tmpfs "$tree/run"
    mkdir -m 1777 "$tree/run/lock"
    chroot "$tree" sh -c "cd $source_tree && exec env HOME=/tmp GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory \
        GIT_CONFIG_VALUE_0=* PYTHONPATH=$source_tree:$source_tree/client:$source_tree/image_tools:$source_tree/qemu \
        python3 -m bench $*"
' sh "$tree" "$source_tree" "$@"
