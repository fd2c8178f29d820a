# Sourced by the scripts beside it: one virtual environment, made and filled once.
#
#   install EXTRAS   installs bnzoo[EXTRAS] into .venv with the tested versions, unless the same
#                    was installed there before

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${BNZOO_VENV:-.venv}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c \
            'import sys, venv, ensurepip; raise SystemExit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "bnzoo needs Python 3.11, 3.12 or 3.13 with its venv module; none was found." >&2
    echo "Install one, or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

install() {
    local extras=$1 stamp wanted
    stamp="$venv/.bnzoo-$extras"
    wanted=$(cksum pyproject.toml constraints.txt; pwd)
    if [ -x "$venv/bin/bnzoo" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if [ ! -x "$venv/bin/python" ]; then
        local python
        python=$(find_python)
        echo "Making a virtual environment in $venv with $python ..."
        "$python" -m venv "$venv"
    fi
    echo "Installing bnzoo and what it needs (a minute or two, once) ..."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extras:+[$extras]}"
    printf '%s' "$wanted" >"$stamp"
}
