#!/bin/sh
# Install what the lists name and this machine lacks. Usage: install-packages.sh LIST...
set -eu
names=$(sed 's/#.*//' "$@" | tr -s ' \n' '\n' | sort -u)
missing=""
for name in $names; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing:$missing" >&2
$sudo apt-get update -q
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing
