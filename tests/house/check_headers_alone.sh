#!/bin/sh
# Each public header compiles alone without a warning (syntax only). A header that a test or program file includes first of
# all is left out: compiling that file has shown it. (That each can be included twice, check_includes.sh sees.)
# Usage: check_headers_alone.sh REPOSITORY COMPILER
cd "$1" || exit 1
export compiler="$2"
seen=$(mktemp)
trap 'rm -f "$seen"' EXIT
grep -hm 1 '^#include' $(find src tests -name '*.cpp' -not -path 'tests/consumer/*' -not -path 'tests/fuzz/*' \
    -not -path 'tests/emulated/*' -not -path 'tests/cuda*') | sed -n 's|#include "\(bf/.*\)"|\1|p' | sort -u >"$seen"
# shellcheck disable=SC2016
find include -name '*.hpp' | sed 's|^include/||' | sort | comm -23 - "$seen" | xargs -P "$(nproc)" -n 1 sh -c '
    printf "#include \"%s\"\n" "$1" |
        $compiler -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -Wno-uninitialized \
            -Wno-maybe-uninitialized -I include -isystem /usr/include/eigen3 -DBF_COMPILED_CPU=1 -x c++ - ||
        { echo "$1 does not compile alone"; exit 255; }' sh
