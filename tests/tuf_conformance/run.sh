#!/bin/sh
# Run theupdateframework/tuf-conformance against the client: run.sh SUITE PYTHON
# SUITE is a checkout of the suite; what it needs is installed beside the project, in build/tuf-conformance. faketime must be
# there (apt install faketime).
set -eu
suite=${1:-} python=${2:-.venv/bin/python}
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$suite/tuf_conformance" ] || { echo "SUITE=DIR: a checkout of github.com/theupdateframework/tuf-conformance is expected" >&2; exit 2; }
command -v faketime > /dev/null || { echo "faketime is missing: apt install faketime" >&2; exit 2; }
work=$(cd "$here/../.." && pwd)/build/tuf-conformance
case $python in /*) ;; *) python=$PWD/$python ;; esac
mkdir -p "$work"
[ -x "$work/venv/bin/pytest" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check "$suite"
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$python" "$here/client.py" > "$work/client"
chmod 755 "$work/client"
cd "$suite"
exec "$work/venv/bin/pytest" -q -c pyproject.toml --rootdir . -p no:cacheprovider tuf_conformance --entrypoint "$work/client"
