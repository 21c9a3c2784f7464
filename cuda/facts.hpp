#pragma once
#include <cstddef>
#include <string>
#include <vector>

// No CUDA header in here: `bf doctor` reads this in every build.

namespace bf::cuda {

struct Gpu {
    std::string name;
    int major = 0, minor = 0;  ///< compute capability
    std::size_t memory = 0;    ///< bytes
};

/// What bf::cuda was built with and what it finds at run time. Versions are texts such as "13.0"; empty: not there.
struct Facts {
    std::string toolkit;        ///< CUDA toolkit at build time
    std::string architectures;  ///< GPU architectures compiled for, as CMake lists them
    std::string runtime, cublas, cudnn, nccl;
    std::string driver;   ///< newest CUDA version that the driver serves
    std::string problem;  ///< why no GPU can be listed; empty when the question was answered
    std::vector<Gpu> gpus;
};

/// Asks the libraries; needs no GPU and throws nothing but std::bad_alloc. Comes with bf::cuda.
Facts facts();

}  // namespace bf::cuda
