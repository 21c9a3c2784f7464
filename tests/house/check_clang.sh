#!/bin/sh
# Library, program, samples and benchmarks compile with clang without a warning (syntax only), and the tests that know of a
# device; the fuzz targets are built with clang elsewhere. Exit 77 (skipped) without clang.
# Usage: check_clang.sh REPOSITORY
cd "$1" || exit 1
command -v clang++ >/dev/null || { echo "skipped: clang++ is not installed"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# compile DEFINES: the sources whose names come in; the library's headers are parsed once for all of them.
compile() {
    set -- -std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Werror -march=x86-64-v3 \
        -I include -I src -I tests -I . -isystem /usr/include/eigen3 -isystem /usr/include/stb \
        -DBF_COMPILED_CPU=1 -DBF_HAVE_JPEG=1 -DBF_HAVE_STB=1 -DBF_HAVE_STB_WRITE=1 -DBF_HAVE_ZLIB=1 \
        -DBF_TEST_DIR='""' -DBF_SHARED_DIR='""' -DBF_PROGRAM='""' -DBF_IMAGE_LIBRARIES='""' "$@"
    clang++ "$@" -x c++-header include/bf/bf.hpp -o "$out/headers.pch" || return
    xargs -P "$(nproc)" -n 1 clang++ "$@" -fsyntax-only -include-pch "$out/headers.pch"
}
result=0
# what needs oneDNN, only where its headers are
without=none
echo '#include <dnnl.hpp>' | clang++ -std=c++20 -fsyntax-only -x c++ - 2>/dev/null || without=onednn_conv.cpp
find src samples benchmarks -name '*.cpp' -not -name "$without" | compile || result=1
{ find tests/emulated -name '*.cpp' && grep -rl --include='*.cpp' '"device.hpp"' tests; } |
    compile -DBF_HAVE_CUDA=1 -DBF_EMULATED_DEVICE=1 || result=1
exit $result
