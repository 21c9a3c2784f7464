#!/bin/sh
# Each public header compiles alone without a warning (syntax only). What one header includes, directly or not, is there
# when it is compiled whatever stands before it: so headers that each include the one before share a call of the compiler,
# and still none sees what it does not ask for. (That each can be included twice, check_includes.sh sees.)
# Usage: check_headers_alone.sh REPOSITORY COMPILER
cd "$1" || exit 1
export compiler="$2"
# shellcheck disable=SC2016
(cd include && find . -name '*.hpp' | sed 's|^\./||' | sort | xargs awk '
    FNR == 1 { names[++count] = FILENAME; depth = 0 }
    /^#if/ { ++depth }
    /^#endif/ { --depth }
    depth == 0 && /^#include "bf\// { split($0, quoted, "\""); direct[FILENAME] = direct[FILENAME] " " quoted[2] }
    function reach(from, to, n, parts, i) {
        n = split(direct[to], parts, " ")
        for (i = 1; i <= n; ++i)
            if (!((from, parts[i]) in within)) {
                within[from, parts[i]] = 1
                ++size[from]
                reach(from, parts[i])
            }
    }
    # the largest header not yet in a line, of those that `from` includes; from "": of all
    function largest(from, best, i) {
        best = ""
        for (i = 1; i <= count; ++i)
            if (!(names[i] in placed) && (from == "" || (from, names[i]) in within) &&
                (best == "" || size[names[i]] > size[best])) best = names[i]
        if (best != "") placed[best] = 1
        return best
    }
    END {
        for (i = 1; i <= count; ++i) reach(names[i], names[i])
        while ((name = largest("")) != "") {
            line = name
            while ((name = largest(name)) != "") line = name " " line
            print line
        }
    }') | xargs -P "$(nproc)" -I {} sh -c '
    for header in {}; do printf "#include \"%s\"\n" "$header"; done |
        $compiler -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -Wno-uninitialized \
            -Wno-maybe-uninitialized -I include -isystem /usr/include/eigen3 -DBF_COMPILED_CPU=1 -x c++ - ||
        { echo "one of these does not compile alone: {}"; exit 255; }'
