#!/bin/sh
# The CPU peer's script: its targets and tables on stored turns, its command line, and --quick with a made-up bf or with
# the real one. PyTorch's own turns are tried where it is installed, and skipped with the reason elsewhere. Exit 77
# (skipped) without python3. Usage: check_torch_cpu.sh REPOSITORY [BF BENCH_CLASSIFIER]
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$1/tests/house/torch_cpu_test.py" "$@"
