#!/bin/sh
# Each public header compiles alone, included twice, without a warning (syntax only).
# Usage: check_headers_alone.sh REPOSITORY COMPILER
cd "$1" || exit 1
export compiler="$2"
# shellcheck disable=SC2016
find include -name '*.hpp' | sed 's|^include/||' | xargs -P "$(nproc)" -n 1 sh -c '
    printf "#include \"%s\"\n#include \"%s\"\n" "$1" "$1" |
        $compiler -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -Wno-uninitialized \
            -Wno-maybe-uninitialized -I include -isystem /usr/include/eigen3 -DBF_COMPILED_CPU=1 -x c++ - ||
        { echo "$1 does not compile alone"; exit 255; }' sh
