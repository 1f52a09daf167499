# Sourced by demo.sh and test.sh: a virtual environment with phagostat in it, made once and again when its pins change.
# Sets $venv. Needs Python 3.11 to 3.13 with venv, and the package index that pip is set up for.

top=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${PHAGOSTAT_VENV:-$top/.venv}

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "phagostat needs Python 3.11, 3.12 or 3.13: on Debian and Ubuntu, 'sudo apt install python3 python3-venv'" >&2
    return 1
}

# install EXTRAS: put phagostat[EXTRAS] into the virtual environment
install() {
    wanted=$(cat "$top/pyproject.toml" "$top/deploy/constraints.txt" | cksum)" $1"
    if [ -x "$venv/bin/phagostat" ] && [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    python=$(find_python) || return 2
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "Python's venv module is missing: on Debian and Ubuntu, 'sudo apt install python$version-venv'" >&2
        return 2
    fi
    echo "Setting up $venv (once; a few minutes) ..."
    "$python" -m venv "$venv" || return 2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$top/deploy/constraints.txt" -e "$top${1:+[$1]}" || {
        echo "The installation did not succeed: see the lines above; run the same command again to retry" >&2
        return 2
    }
    echo "$wanted" >"$venv/installed"
}
