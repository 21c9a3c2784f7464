#!/bin/sh
# An outside project finds the installed package, and add_subdirectory gives it the same target names, there without
# oneDNN whatever the machine has.
# Usage: find_package.sh REPOSITORY BUILD_FOLDER COMPILER GENERATOR
set -e
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# quiet COMMAND: its output is shown only when it fails.
quiet() {
    "$@" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
}

quiet cmake --install "$2" --prefix "$out/prefix"
# The kernels share no Eigen function with a user whose Eigen may be compiled for another machine.
if nm -C "$out"/prefix/lib*/libbf_cpu.a "$out"/prefix/lib*/*/libbf_cpu.a 2>/dev/null | grep ' [TWVu] .*Eigen::'; then
    echo "libbf_cpu.a defines symbols of Eigen"
    exit 1
fi
for way in installed subdirectory; do
    quiet cmake -S "$1/tests/consumer/find_package" -B "$out/$way" -G "$4" -DCMAKE_CXX_COMPILER="$3" \
        -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_PREFIX_PATH="$out/prefix" -DWAY=$way -DBF_SOURCE="$1" -DBF_ONEDNN=OFF
    quiet cmake --build "$out/$way" --target consumer
    "$out/$way/consumer"
done
