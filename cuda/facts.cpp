#include "facts.hpp"

#include <dlfcn.h>

#include "runtime.hpp"

namespace bf::cuda {
namespace {

/// 13020 as "13.2".
std::string cuda_version(int number) { return number ? concat(number / 1000, ".", number % 1000 / 10) : std::string(); }

/// NCCL is not linked: it is looked for as a program that uses it would.
std::string nccl_version() {
    void* library = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_LOCAL);
    if (!library) return "";
    using GetVersion = int (*)(int*);
    int number = 0;
    if (const auto ask = reinterpret_cast<GetVersion>(dlsym(library, "ncclGetVersion"))) ask(&number);
    dlclose(library);
    return number ? concat(number / 10000, ".", number % 10000 / 100, ".", number % 100) : std::string();
}

void look(Facts& f) {
    int number = 0;
    BF_CUDA(cudaRuntimeGetVersion(&number));
    f.runtime = cuda_version(number);
    BF_CUDA(cudaDriverGetVersion(&number));  // 0 without a driver
    f.driver = cuda_version(number);
    int part[3] = {};
    BF_CUDA(cublasGetProperty(MAJOR_VERSION, &part[0]));
    BF_CUDA(cublasGetProperty(MINOR_VERSION, &part[1]));
    BF_CUDA(cublasGetProperty(PATCH_LEVEL, &part[2]));
    f.cublas = concat(part[0], ".", part[1], ".", part[2]);
    const std::size_t dnn = cudnnGetVersion();
    f.cudnn = concat(dnn / 10000, ".", dnn % 10000 / 100, ".", dnn % 100);
    f.nccl = nccl_version();
    int count = 0;
    BF_CUDA(cudaGetDeviceCount(&count));
    for (int i = 0; i < count; ++i) {
        cudaDeviceProp p{};
        BF_CUDA(cudaGetDeviceProperties(&p, i), "device ", i);
        f.gpus.push_back({p.name, p.major, p.minor, p.totalGlobalMem});
    }
}

}  // namespace

Facts facts() {
    Facts f;
    f.toolkit = cuda_version(CUDART_VERSION);
    f.architectures = BF_CUDA_ARCHITECTURES;
    try {
        look(f);
    } catch (const Error& e) {
        f.problem = e.what();
    }
    return f;
}

}  // namespace bf::cuda
