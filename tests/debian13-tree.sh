#!/bin/bash
# A tree of Debian 13 to enter with chroot: tests/debian13-tree.sh TREE PACKAGES, these with commas between. Made once; who
# comes while it is being made waits. While mmdebstrap works, the host's /dev/shm stands in the tree: nothing of another file
# system is removed, and nothing at all while another one builds there.
set -eu
cd "$(dirname "$0")/.."
tree=$1 packages=$2
[ ! -e "$tree/.complete" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
name=$(basename "$tree")
mkdir -p "$(dirname "$tree")" build/log
exec 9> "$tree.lock"
flock 9
if [ ! -e "$tree/.complete" ]; then
    $sudo rm -rf --one-file-system "$tree"
    .venv/bin/python -c 'from twinslot_lab import apt; print(apt.sources("trixie"), end="")' > "$tree.list"
    # shellcheck disable=SC2016 # expanded there
    tests/watched.sh "Debian 13's tree" "build/log/$name.log" \
        'for word in Get: Unpacking "Setting up"; do printf "%s %s, " "$word" "$(grep -c "^$word" "$LOG")"; done; grep "^I: " "$LOG" | tail -n 1' \
        $sudo mmdebstrap --verbose --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' trixie "$tree" "$tree.list"
    $sudo touch "$tree/.complete"
fi
