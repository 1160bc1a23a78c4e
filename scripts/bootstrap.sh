#!/bin/sh
# Starts scripts/bootstrap.py with the first Python that starts at all. A name on PATH proves nothing: pyenv's
# `python3` fails in this folder where pyenv has no 3.10, because of .python-version.
set -u
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../.venv/bin/python

# The usual case, quick: all is there. -I -S leaves out what a plain look at files does not need.
if [ -x "$venv" ] && "$venv" -I -S -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); import bootstrap; sys.exit(bootstrap.main(["--check"]))' "$here" 2>/dev/null; then
  exit 0
fi

for python in python3 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python \
  /usr/bin/python3 /usr/local/bin/python3 "${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/3.*/bin/python3; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then
    exec "$python" -E -s "$here/bootstrap.py" "$@"
  fi
done
echo "error: There is no Python 3.8 or newer on this machine: install python3 and run the same command again" >&2
exit 2
