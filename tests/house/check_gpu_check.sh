#!/bin/sh
# tools/gpu_check with stand-ins for the compiler, the GPU's tools, the programs and PyTorch: that its steps run in turns
# to the end, that its table and verdict are right, and that a wrong test or memory error is not called green.
# Exit 77 (skipped) without python3. Usage: check_gpu_check.sh REPOSITORY
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
repository=$folder/repository
mkdir -p "$folder/bin" "$folder/python" "$repository/tests/ops" "$repository/tests/cuda" "$repository/benchmarks/peers"
cp -R "$1/tools" "$repository"
cp "$1"/benchmarks/*.py "$repository/benchmarks"
echo '// cuda' | tee "$repository/tests/ops/cases.cpp" >"$repository/tests/cuda/memory_test.cpp"

stub() { # stub FILE: an executable from standard input
    cat >"$1"
    chmod +x "$1"
}
echo 'echo "Stand-in GPU, 81559 MiB, 580.1"' | stub "$folder/bin/nvidia-smi"
echo 'echo release 13.0' | stub "$folder/bin/nvcc"
# where the test says so: a memory error, found before the time was up
printf '%s\n' '[ "$WRONG" = memory ] && echo "Invalid __global__ write" && exit 124' 'exit 0' | stub "$folder/bin/compute-sanitizer"
printf '%s\n' '[ "$1" = profile ] || echo "Time (%),Total Time (ns),Instances,Name"' \
    '[ "$1" = profile ] || echo "100,1500,1,stand_in_kernel"' | stub "$folder/bin/nsys"
stub "$folder/test_program" <<'STUB'
#!/bin/sh
case "$*" in *list_tests*) printf "Gpu.\n  Runs\n" && exit ;; esac
[ "$WRONG" = test ] && echo '[  FAILED  ] Gpu.Runs (1 ms)' && exit 1
echo '[       OK ] CudaCheck.HostCode (1 ms)'
[ "$WRONG" = host ] || echo '[       OK ] Gpu.Runs (1 ms)'
STUB
# writes the rows that it was asked for: a step of 100 ms and 5 ms more with any queue
stub "$folder/bench_program" <<'STUB'
#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
what=train stage=
case $0 in *classifier) what=classifier stage='"stage": true, ' ;; esac
graph=false
case "$*" in *--graph*) graph=true && echo 'Q 0 runs without a graph: a stand-in has none' ;; esac
while [ $# -gt 0 ]; do
    case $1 in --batch) batch=$2 ;; --json) json=$2 ;; esac
    shift
done
[ -n "$json" ] || exit 0
for q in 0 8192 32768; do
    more=0
    [ $q -gt 0 ] && more=5
    rows="$rows${rows:+,}{\"what\": \"$what\", \"network\": \"r100\", \"batch\": ${batch%,*}, \"queue\": $q, $stage\"graph\": $graph, \"ms\": $((100 + more)), \"peak_mib\": 500}"
done
echo "{\"engine\": \"bf\", \"precision\": \"bf16\", \"classes\": 85742, \"rows\": [$rows]}" | sed 's/"classifier", "network": "r100"/"classifier", "network": "-"/g' >"$json"
STUB
cat >"$repository/benchmarks/peers/torch_arcface.py" <<'STUB'
import json, os, sys
def option(name):
    return sys.argv[sys.argv.index(name) + 1].split(",")
with open(os.environ["CALLS"], "a") as file:
    print("torch", *sys.argv[1:], file=file)
rows = []
for what in option("--what") if "--what" in sys.argv else ["classifier", "train", "inference"]:
    for batch in map(int, option("--batch")):
        for queue in map(int, option("--queue")):
            rows.append({"what": what, "network": "-" if what == "classifier" else "r100", "batch": batch, "queue": queue,
                         "compile": option("--compile") == ["on"], "ms": 150 + (queue > 0) * 50, "peak_mib": 3000})
with open(option("--json")[0], "w") as file:
    json.dump({"engine": "torch", "precision": "bf16", "classes": 85742, "rows": rows}, file)
STUB
printf '%s\n' 'class cuda:' '    is_available = staticmethod(lambda: True)' >"$folder/python/torch.py"
stub "$folder/bin/cmake" <<'STUB'
#!/bin/sh
case "$*" in
    *probe*) mkdir -p "$4" && printf '%s\n' GTest CLI11 tomlplusplus Eigen3 CUDAToolkit cuDNN cublas >"$4/found.txt" ;;
    *"--target help") printf '%s\n' 'test_cuda: phony' 'test_ops: phony' ;;
    --build*)
        mkdir -p "$2/tests" "$2/benchmarks"
        cp "$PROGRAMS/test_program" "$2/tests/test_cuda"
        cp "$PROGRAMS/test_program" "$2/tests/test_ops"
        cp "$PROGRAMS/bench_program" "$2/benchmarks/bench_step"
        cp "$PROGRAMS/bench_program" "$2/benchmarks/bench_classifier"
        ;;
esac
STUB

# try NAME ARGUMENTS: one run; its output is NAME.txt, its calls are NAME.calls
try() {
    name=$1
    shift
    env PATH="$folder/bin:$PATH" PYTHONPATH="$folder/python" PYTHONDONTWRITEBYTECODE=1 PROGRAMS="$folder" \
        CALLS="$folder/$name.calls" OUT="$folder/$name.out" sh "$repository/tools/gpu_check" "$@" >"$folder/$name.txt" 2>&1
}
bad=0
want() { # want WHAT COMMAND...
    what=$1
    shift
    "$@" >/dev/null || { echo "gpu_check: $what"; bad=1; }
}
last() { tail -n 1 "$folder/$1.txt" | grep -q "gpu_check: $2 in"; }

try whole
want 'a right run fails' [ $? -eq 0 ]
want 'a right run is not green' last whole green
want 'GPU tests are not counted' grep -qx 'GPU tests: 2 passed, 0 failed, 0 skipped' "$folder/whole.txt"
want 'the table lacks the rows of both' grep -Eq '^\| 256 +\| +0 \| +2560 \| +2560 \| +1707 \| +1707 \| +1.50 \| +1.50 ' "$folder/whole.txt"
want 'a target is not met' [ "$(grep -c '| met ' "$folder/whole.txt")" -eq 12 ]
want 'turns are not counted' grep -q 'Measured in 2 turns' "$folder/whole.txt"
want 'the profile is not there' grep -q 'stand_in_kernel' "$folder/whole.txt"
want 'the missing graph is not said' grep -q 'note: bf_graph_1: Q 0 runs without a graph: a stand-in' "$folder/whole.txt"
want 'bf and the peer do not take turns' [ "$(grep -v graph "$folder/whole.calls" | cut -d ' ' -f 1 | uniq | head -n 4 | tr '\n' ' ')" = \
    'bench_step bench_classifier torch bench_step ' ]
want 'the result is spread over many files' [ "$(ls "$folder/whole.out" | wc -l)" -le 8 ]
want 'the log lacks a step' grep -q '^==== memcheck_test_ops: ok' "$folder/whole.out/log.txt"
want 'the summary is long' [ "$(wc -c <"$folder/whole.out/summary.txt")" -lt 10000 ]
want 'the summary does not come last' [ "$(tail -n 20 "$folder/whole.txt" | head -c 500)" = \
    "$(tail -n 20 "$folder/whole.out/summary.txt" | head -c 500)" ]
want 'the script complains' [ "$(grep -c 'grep:\|line [0-9]*:\|not found' "$folder/whole.txt")" -eq 0 ]

try built --built build/cuda-hopper
want 'programs built elsewhere are not green' last built green
want 'programs built elsewhere are built again' [ "$(grep -c '^build \|^configure ' "$folder/built.txt")" -eq 0 ]
want 'not all tests that are there are run' grep -qx 'GPU tests: 2 passed, 0 failed, 0 skipped' "$folder/built.txt"
try not_there --built build/nowhere
want 'a folder without programs is called green' last not_there 'NOT green'
want 'a folder without programs is not said' grep -q 'build/nowhere has neither' "$folder/not_there.txt"

WRONG=test
export WRONG
try wrong_test
want 'a failed test is called green' last wrong_test 'NOT green'
want 'failed tests are not counted' grep -q 'GPU tests: 0 passed, 2 failed' "$folder/wrong_test.txt"
WRONG=host
try host_only --only prove
want 'host code alone is called green' last host_only 'NOT green'
WRONG=memory
try wrong_memory --only prove
want 'a memory error is called green' last wrong_memory 'NOT green'
want '--only prove measures' [ ! -e "$folder/wrong_memory.calls" ]
WRONG=
try measured --only measure
want '--only measure fails' last measured measured
want '--only measure runs tests' [ "$(grep -c 'test_' "$folder/measured.txt")" -eq 0 ]
rm "$folder/bin/nvidia-smi"
try no_gpu
want 'a machine without a GPU is called green' last no_gpu 'NOT green'
[ $bad -eq 0 ] || cat "$folder/whole.txt"
exit $bad
