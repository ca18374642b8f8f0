#!/bin/sh
# `make try`: says what it installs, installs it, and makes the device. Usage: try.sh [--story]
# PYTHON: the interpreter for the virtual environment; Debian's own unless given.
set -eu
cd "$(dirname "$0")/.."
list=qemu/twinslot_lab/try_device/apt-packages.txt
lab=.venv/bin/python

sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || {
        echo "make try: expected root or sudo, for loop devices and mounts, found user '$(id -un)' without sudo; run it as root: su -c 'make try'" >&2
        exit 1
    }
    sudo=sudo
fi

tools=$($lab -c 'import twinslot, twinslot_image, twinslot_lab, numpy, tuf, zstandard' 2> /dev/null || echo missing)
lacks=$(tests/install-packages.sh --plan "$list")
[ "$lacks" = "all there" ] || echo "  apt: ${lacks%;*}"
[ -z "$tools" ] || echo "  pip: the client, the image tool and their libraries into .venv, 160 MB on disk, half a minute"
tests/install-packages.sh "$list"
if [ -n "$tools" ]; then
    tests/make-venv.sh -e ./client -e ./image_tools -e ./qemu
fi
exec $sudo "$lab" -m twinslot_lab try "$@"
