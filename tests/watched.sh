#!/bin/sh
# Run a long program with its words in a new log; every four seconds a line says where it stands. If it fails, its cause comes last.
# Usage: watched.sh NAME LOG WHERE PROGRAM [WORD...]
#   WHERE  shell commands that print how far it is, mostly from the log, "$LOG"
set -eu
name=$1 LOG=$2 where=$3
shift 3
export LOG
mkdir -p "$(dirname "$LOG")"
: > "$LOG"
began=$(date +%s)
# Ends by itself when this shell is killed; its sleep holds no stream of ours, so that nobody waits for that.
while sleep 4 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do
    echo "$name: $(sh -c "$where"), $(($(date +%s) - began)) s" >&2
done &
teller=$!
status=0
"$@" >> "$LOG" 2>&1 || status=$?
kill "$teller" 2> /dev/null || true
[ "$status" = 0 ] || {
    tail -n 20 "$LOG" >&2
    cause=$(grep -E '^E: |^dpkg: error|^ERROR: ' "$LOG" | head -n 1)
    echo "$name failed: ${cause:-status $status} (all of it: $LOG)" >&2
    exit "$status"
}
