#!/bin/sh
# build.sh OUTDIR: builds the Debian package of the client there, and prints its path. The same tree gives the same
# bytes; the tree itself is not touched. Any user may, and several at once.
set -eu
[ $# = 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
tree=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/twinslot-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
mkdir -p "$work/src"
cd "$tree"
# Only what goes in, so that nothing else in a work tree can change the result.
tar -cf - --exclude=__pycache__ --exclude='.*.sw?' --exclude='*.pyc' \
    client systemd debian bootloader_hooks docs LICENSE | tar -xf - -C "$work/src"
cd "$work/src"
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -STimestamp)
# What writes the SBOM: an interpreter with cyclonedx-python-lib.
SBOM=${SBOM:-$tree/.venv/bin/python}
[ -x "$SBOM" ] || SBOM=/usr/bin/python3
export SOURCE_DATE_EPOCH SBOM LC_ALL=C.UTF-8 TZ=UTC
# Mode and time of a file come from here, not from the checkout.
find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" '{}' +
PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -us -uc -b -d >"$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    exit 1
}
package=$(basename "$work"/twinslot_*_all.deb)
new="$out/.$package.$$"  # a name of its own: another build may be at the same step
trap 'rm -rf "$work" "$new"' EXIT
cp "$work/$package" "$new"
mv "$new" "$out/$package"
echo "$out/$package"
