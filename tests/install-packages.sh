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
mkdir -p build/log
: > "$LOG"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo

where() { # a line that says how far apt is
    printf 'packages: %s fetched, %s unpacked, %s set up of %s\n' "$(grep -c '^Get:' "$LOG")" \
        "$(grep -c '^Unpacking ' "$LOG")" "$(grep -c '^Setting up ' "$LOG")" "$1" >&2
}

watched() { # TOTAL PROGRAM [WORD...]: run it, and say where it is every five seconds; if it fails, its cause comes last
    total=$1
    shift
    "$@" >> "$LOG" 2>&1 &
    apt=$!
    while sleep 5 > /dev/null 2>&1 && kill -0 "$apt" 2>/dev/null; do where "$total"; done &
    teller=$!
    status=0
    wait "$apt" || status=$?
    kill "$teller" 2>/dev/null || true
    [ "$status" = 0 ] || {
        tail -n 20 "$LOG" >&2
        echo "apt failed: $(grep -m 1 -E '^E: |^dpkg: error' "$LOG" || echo "status $status") (all of it: $LOG)" >&2
        exit "$status"
    }
}

$sudo true # asks for the password now, not in the background
watched '?' $sudo apt-get update -q
told=$(size)
echo "installing $told; what apt says is in $LOG" >&2
# shellcheck disable=SC2086 # a list of names
watched "${told%% *}" $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
