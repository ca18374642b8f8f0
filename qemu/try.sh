#!/bin/sh
# `make try`: says what it installs, installs it, and makes the device. Usage: try.sh [--story]
# PYTHON: the interpreter for the virtual environment; Debian's own unless given.
set -eu
cd "$(dirname "$0")/.."
list=qemu/twinslot_lab/try_device/apt-packages.txt
log=build/log/try.log
lab=.venv/bin/python

sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
        echo "make try: expected root or sudo, for loop devices and mounts, found user '$(id -un)' without sudo; run it as root: su -c 'make try'" >&2
        exit 1
    }
    sudo=sudo
fi

missing=""
while read -r name _; do
    [ "$name" != "#" ] || continue
    dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null | grep -qx installed || missing="$missing $name"
done < "$list"
tools=$($lab -c 'import twinslot, twinslot_image, twinslot_lab, numpy, tuf, zstandard' 2> /dev/null || echo missing)
mkdir -p build/log

if [ -n "$missing" ]; then
    echo "make try needs Debian packages that are not here:$missing; asking apt for its lists ..."
    $sudo apt-get update -q > "$log" 2>&1 || { tail -n 5 "$log" >&2; exit 1; }
    # shellcheck disable=SC2086 # a list of names
    apt-get install -y -qq --no-install-recommends --print-uris $missing |
        awk '{ bytes += $3 } END { printf "  apt: %d packages, %.1f MB to fetch, some seconds\n", NR, bytes / 1e6 }'
fi
[ -z "$tools" ] || echo "  pip: the client, the image tool and their libraries into .venv, 150 MB on disk, half a minute"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing > "$log" 2>&1 ||
        { tail -n 5 "$log" >&2; exit 1; }
fi
if [ -n "$tools" ]; then
    "${PYTHON:-/usr/bin/python3}" -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check -e ./client -e ./image_tools -e ./qemu
fi
exec $sudo "$lab" -m twinslot_lab try "$@"
