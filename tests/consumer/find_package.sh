#!/bin/sh
# An outside project finds the installed package, and add_subdirectory gives it the same names.
set -e
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cmake --install "$2" --prefix "$out/prefix" >/dev/null
for way in installed subdirectory; do
    cmake -S "$1/tests/consumer/find_package" -B "$out/$way" -G Ninja -DCMAKE_PREFIX_PATH="$out/prefix" \
        -DWAY=$way -DBF_SOURCE="$1" >"$out/log" || { cat "$out/log"; exit 1; }
    cmake --build "$out/$way" --target consumer >"$out/log" || { cat "$out/log"; exit 1; }
    "$out/$way/consumer"
done
