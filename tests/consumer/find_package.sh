#!/bin/sh
# An outside project finds the installed package, and add_subdirectory gives it the same target names.
# Usage: find_package.sh REPOSITORY BUILD_FOLDER COMPILER
set -e
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# quiet COMMAND: its output is shown only when it fails.
quiet() {
    "$@" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
}

quiet cmake --install "$2" --prefix "$out/prefix"
for way in installed subdirectory; do
    quiet cmake -S "$1/tests/consumer/find_package" -B "$out/$way" -DCMAKE_CXX_COMPILER="$3" \
        -DCMAKE_PREFIX_PATH="$out/prefix" -DWAY=$way -DBF_SOURCE="$1"
    quiet cmake --build "$out/$way" --target consumer
    "$out/$way/consumer"
done
