#!/bin/sh
# Run the tests on every supported Python that this machine has: on the PATH, or under pyenv. `make test-all` calls it.
# The newest runs all; the oldest, which differs most from it, all but what is the same everywhere. Those between them have
# the TensorFlow of the one or the other: they make a model, categorise with it, learn, and read and write files.
set -eu

# Compiling all modules would take longer than the installation, and few are ever imported; but those are then compiled
# once, not by each of the many processes that the tests start.
export PIP_COMPILE=0
unset PYTHONDONTWRITEBYTECODE
versions="3.8 3.11 3.12 3.13"

# interpreter VERSION: the command of that Python; nothing if there is none
interpreter() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2> /dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# All environments at once, since an installation keeps one core busy. What fails here, the tests' `make` will say again.
for version in $versions; do
    found=$(interpreter "$version")
    if [ -n "$found" ]; then
        make --silent ".venv-$version/.ready-test" PYTHON="$found" VENV=".venv-$version" &
    fi
done
wait

tested=""
for version in $versions; do
    found=$(interpreter "$version")
    if [ -z "$found" ]; then
        echo "=== Python $version: NOT TESTED, this machine has none"
        continue
    fi
    echo "=== Python $version"
    case $version in
        3.8) tests="-m 'not once'" ;;
        # All. The files in their order, or the longest, of few tests, would come last; Python 3.8 has no xdist that can.
        3.13) tests="--no-loadscope-reorder" ;;
        *)
            tests="tests/test_convnextClassifier.py tests/prediction/test_model.py tests/test_adaptImages.py tests/storage"
            tests="$tests -m 'not once'"
            ;;
    esac
    make test PYTHON="$found" VENV=".venv-$version" TESTS="$tests"
    tested="$tested $version"
done
if [ -z "$tested" ]; then
    echo "No Python from 3.8 to 3.13 was found." >&2
    exit 1
fi
echo "=== Passed on Python$tested"
