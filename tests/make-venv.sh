#!/bin/sh
# Make the virtual environment .venv, or bring it up to date; what pip says goes to build/log/pip.log.
# Usage: make-venv.sh WORD...   what pip is to install. PYTHON: the interpreter; Debian's own unless given.
set -eu
log=build/log/pip.log
watched=$(dirname "$0")/watched.sh
"$watched" "virtual environment, step 1 of 2: an interpreter in .venv" "$log" 'du -sh .venv | cut -f 1' \
    "${PYTHON:-/usr/bin/python3}" -m venv .venv
touch build/log/pip.begun
# shellcheck disable=SC2016 # expanded there
where='names=$(sed -n "s/^Installing collected packages: //p" "$LOG")
if [ -n "$names" ]; then
    there=$(find .venv/lib/python3*/site-packages -maxdepth 1 -name "*.dist-info" -newer build/log/pip.begun | wc -l)
    echo "$there of $(echo "$names" | tr , "\n" | wc -l) installed"
else
    echo "$(grep -c -e "^Collecting " -e "^Requirement already" "$LOG") looked at, $(grep -c "^ *Downloading " "$LOG") fetched"
fi'
"$watched" "virtual environment, step 2 of 2: Python packages" "$log" "$where" \
    .venv/bin/pip install --disable-pip-version-check "$@"
