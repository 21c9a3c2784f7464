#!/bin/sh
# check_cuda_calls.sh itself: checked calls pass, and each kind of bare call is named and counted.
script="$1/tests/house/check_cuda_calls.sh"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir -p "$out/cuda" "$out/tests/house"
printf '# comment\ncheck.cpp cudaGetErrorName\n' >"$out/tests/house/cuda_calls_allowed.txt"
failed=0

# try COUNT FILE TEXT: a tree with one file of that text (printf format); COUNT bare calls are wanted.
try() {
    rm -f "$out"/cuda/*
    printf "$3" >"$out/cuda/$2"
    message=$(sh "$script" "$out")
    code=$?
    case "$message" in
        "$1 bare calls" | *"
$1 bare calls") [ $((code != 0)) -eq $(($1 != 0)) ] && return ;;
    esac
    printf 'want %s bare calls in %s: %s\ngot exit %s: %s\n' "$1" "$2" "$3" "$code" "$message"
    failed=1
}

try 0 a.cpp 'BF_CUDA(cudaFree(p), "bytes ", n);\n'
try 0 a.cpp 'BF_CUDA(cudaMemcpyAsync(to, f(from), n,\n    kind, s));\nint x;\n'
try 0 a.cpp '// cudaFree(p)\n/* cudaFree(p)\n cudaFree(q) */ int x;\n'
try 0 a.cpp 'const char* s = "cudaFree(p) \\" cudaFree(q)";\n'
try 0 a.cpp 'cudaStream_t s; cudaError_t(x); using S = Owned<cudaStream_t, cudaStreamDestroy>;\n'
try 0 a.cpp 'cuda_context(1); cuda::facts(); f.cudaVersion(1); p->cudaVersion(1);\n'
try 0 check.cpp 'cudaGetErrorName(status);\n'
try 0 a.cu 'kernel<<<1, 2, 0, s>>>(n);\nBF_CUDA(cudaGetLastError(), "elements ", n);\n'
try 1 a.cpp 'cudaFree(p);\n'
try 1 a.cpp 'BF_CUDA(cudaFree(p)); cudaFree(q);\n'
try 1 a.cpp 'if (cudaMalloc\n    (&p, 1)) return;\n'
try 1 a.cpp 'check(cublasSetStream(h, s));\n'
try 1 a.cpp 'const auto status = cublasLtMatmul(h);\n'
try 1 a.cuh '::cudaDeviceSynchronize();\n'
try 1 a.hpp "const int n = 1'000; cudnnCreate(&h);\n"
try 1 a.cpp "const char c = '\"'; ncclCommDestroy(c);\n"
try 1 a.cpp 'cudaGetErrorName(status);\n'
try 2 a.cu '#define CALL(x) cudaFree(x)\n/* */ cudaFree(p); // cudaFree(p)\n'
rm -f "$out"/cuda/*
sh "$script" "$out" >/dev/null && { echo 'an empty folder passes'; failed=1; }
exit $failed
