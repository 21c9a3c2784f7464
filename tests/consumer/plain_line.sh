#!/bin/sh
# The engine is complete with one compiler line: a trainer builds from the headers and Eigen alone, and runs.
set -e
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$2" -std=c++20 -O3 -march=native -I "$1/include" -I /usr/include/eigen3 "$1/samples/train_broadface.cpp" -o "$out/train" -pthread
"$out/train" 20
