#!/bin/sh
# check_includes.sh itself: a clean tree passes, and each kind of breach alone makes it fail and is named.
script="$1/tests/house/check_includes.sh"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0

# try WANTED FILE LINE: a tree with one header of that content; WANTED is the rule that must be named, or "pass".
try() {
    rm -rf "$out/include"
    mkdir -p "$out/include/bf/$(dirname "$2")"
    printf '#pragma once\n%s\n' "$3" >"$out/include/bf/$2"
    [ "$1" = 'no #pragma once' ] && printf '%s\n' "$3" >"$out/include/bf/$2"
    message=$(sh "$script" "$out")
    code=$?
    case "$1" in
        pass) [ $code -eq 0 ] && return ;;
        *) [ $code -ne 0 ] && case "$message" in *"$1"*"$2"*) return ;; esac ;;
    esac
    printf 'want %s for %s in %s; got exit %s: %s\n' "$1" "$3" "$2" "$code" "$message"
    failed=1
}

try pass bf.hpp '#include "bf/train/trainer.hpp"'
try pass train/a.hpp '#include "bf/models/iresnet.hpp"'
try pass ops/a.hpp '#include "bf/ops/b.hpp"'
try pass kernels/cpu_a.hpp '#include <Eigen/Core>'
try pass math/a.hpp '#include <cmath>'
try 'against the direction' models/a.hpp '#include "bf/train/trainer.hpp"'
try 'against the direction' base/a.hpp '#include "bf/core/tensor.hpp"'
try 'against the direction' optim/a.hpp '#include "bf/nn/module.hpp"'
try 'against the direction' data/a.hpp '#include "bf/kernels/table.hpp"'
try 'against the direction' eval/a.hpp '#include "bf/ops/linalg.hpp"'
try 'against the direction' core/a.hpp '#include "bf/unknown/a.hpp"'
try 'math/ includes more' math/a.hpp '#include <vector>'
try 'Eigen outside' ops/a.hpp '#include <Eigen/Core>'
try 'Eigen outside' kernels/table.hpp '#include <Eigen/Core>'
try 'CUDA header' core/a.hpp '#include <cuda_runtime.h>'
try 'over 500 lines' core/a.hpp "$(awk 'BEGIN { for (i = 0; i < 500; ++i) print "// line" }')"
try 'no #pragma once' core/a.hpp 'int x;'
exit $failed
