#!/bin/sh
# The table of benchmarks: its arithmetic on made-up results, and that it reads what bench_step writes. Exit 77
# (skipped) without python3. Usage: check_compare.sh REPOSITORY [BENCH_STEP]
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
python3 "$1/tests/house/compare_test.py" "$1" || exit 1
[ -n "$2" ] || exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$2" --size 16 --dim 32 --batch 4 --queue 0,16 --identities 40 --steps 2 --mode train,inference \
    --json "$folder/bf.json" >"$folder/log" || { cat "$folder/log"; exit 1; }
python3 "$1/benchmarks/compare.py" "$folder/bf.json" >"$folder/table" || exit 1
# a training row without and one with the queue, with its overhead, and the inference row
for row in '^\| 4 \| +0 \| +[0-9]+ \| +- \|' '^\| 4 \| 16 \| +[0-9]+ \| +[+-][0-9.]+% \|' '^Inference, iresnet_small'; do
    grep -Eq "$row" "$folder/table" || { echo "the table lacks $row:"; cat "$folder/table"; exit 1; }
done
