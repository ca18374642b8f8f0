#!/bin/sh
# Install what the lists name and this machine lacks; what apt says goes to build/log/apt.log, and how far it is comes here.
# Usage: install-packages.sh [--plan] LIST...   with --plan it only says what it would do
set -eu
LOG=build/log/apt.log
plan=""
[ "$1" != --plan ] || { plan=yes; shift; }
names=$(sed 's/#.*//' "$@" | tr -s ' \n' '\n' | sort -u)
missing=""
for name in $names; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
done
# shellcheck disable=SC2086 # a list of names
size() { # packages, and megabytes to fetch, with all that they depend on; nothing if apt does not know them yet
    apt-get install -y --no-install-recommends --print-uris $missing 2>/dev/null |
        awk '/^\047/ { n++; bytes += $3 } END { if (n) printf "%d packages, %.0f MB to fetch", n, bytes / 1e6 }'
}
if [ -n "$plan" ]; then
    [ -n "$missing" ] || { echo "all there"; exit 0; }
    told=$(size)
    echo "${told:-$(echo "$missing" | wc -w) packages and what they depend on}; some minutes"
    exit 0
fi
[ -n "$missing" ] || exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo

# shellcheck disable=SC2016 # expanded there
where='echo "$(grep -c "^Get:" "$LOG") fetched, $(grep -c "^Unpacking " "$LOG") unpacked, $(grep -c "^Setting up " "$LOG") set up"'
watched=$(dirname "$0")/watched.sh

$sudo true # asks for the password now, not in the background
"$watched" apt "$LOG" "$where" $sudo apt-get update -q
told=$(size)
echo "installing $told; what apt says is in $LOG" >&2
# shellcheck disable=SC2086 # a list of names
"$watched" apt "$LOG" "$where of ${told%% *}" $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
