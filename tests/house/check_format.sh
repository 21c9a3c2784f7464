#!/bin/sh
# Every source is formatted as .clang-format says. Exit 77 (skipped) without clang-format 14: versions differ in details.
# Usage: check_format.sh REPOSITORY
cd "$1" || exit 1
clang-format --version 2>/dev/null | grep -q 'version 14\.' || { echo "skipped: clang-format 14 is not installed"; exit 77; }
find include src cuda tests samples benchmarks \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' \) 2>/dev/null |
    xargs clang-format --dry-run --Werror
