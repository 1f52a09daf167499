#!/bin/sh
# Set up phagostat and pass its tests; arguments go to pytest.
set -u
. "$(dirname -- "$0")/setup.sh"
install "dev,movies,networks" || exit $?
cd "$top" && exec "$venv/bin/python" -m pytest "$@"
