#!/bin/sh
# One fuzz target over a number of seeded mutations of its seeds: the files of the repository that its parser reads, and
# those under tests/fuzz/seeds/NAME. The same seed and binary give the same inputs. Findings stay in FOLDER.
# Usage: run.sh REPOSITORY BINARY NAME FOLDER RUNS
repository=$1 binary=$2 name=$3 folder=$4 runs=$5
rm -rf "$folder"
mkdir -p "$folder/seeds" || exit 1
case $name in
    safetensors | npy | npz) wanted="*.$name" ;;
    torch_file) wanted='*.pth' ;;
    zip) wanted='*.npz' ;;
    toml) wanted='*.toml' ;;
    onnx) wanted='*.onnx' ;;
    record) wanted='*.rec' ;;
    mat_file) wanted='*.mat' ;;
    *) wanted= ;;
esac
if [ -n "$wanted" ]; then
    for file in $(cd "$repository" && find configs tests samples -name "$wanted"); do
        cp "$repository/$file" "$folder/seeds/$(echo "$file" | tr / _)"
    done
fi
# a .rec with its .idx before it, as the target cuts them
if [ "$name" = record ]; then
    for file in "$repository"/tests/io/*.idx "$repository"/tests/program/*.idx; do
        { cat "$file" && printf '|' && cat "${file%.idx}.rec"; } >"$folder/seeds/with_$(basename "$file")"
    done
fi
[ -d "$repository/tests/fuzz/seeds/$name" ] && cp "$repository/tests/fuzz/seeds/$name"/* "$folder/seeds/"
[ -n "$(ls "$folder/seeds")" ] || { echo "no seeds for $name"; exit 1; }
dictionary="$repository/tests/fuzz/$name.dict"
[ -f "$dictionary" ] && dictionary="-dict=$dictionary" || dictionary=
cd "$folder" || exit 1
# -timeout is the net below the limit of processor time that the target itself keeps
# shellcheck disable=SC2086
"$binary" -seed=1 -runs="$runs" -max_len=65536 -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$folder/" $dictionary "$folder/seeds" >"$folder/log" 2>&1
result=$?
grep -E 'executed_units|peak_rss' "$folder/log"
[ $result = 0 ] || tail -n 60 "$folder/log"
exit $result
