#!/bin/sh
# The engine is complete with one compiler line: a trainer builds from the headers and Eigen alone, and runs
# (here less optimised than the README says: that compiles in half the time).
# Usage: plain_line.sh REPOSITORY COMPILER
set -e
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$1"
"$2" -std=c++20 -O1 -march=native -I include -I /usr/include/eigen3 samples/train_broadface.cpp -o "$out/train" -pthread
"$out/train" 5 | tee "$out/log"
grep -q '^verification' "$out/log"
