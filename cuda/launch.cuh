#pragma once
#include "runtime.hpp"

// Launching index functors: a kernel of this folder is a struct with `BF_HD void operator()(std::int64_t i) const`,
// kept in include/bf/math so that the tests run it on the CPU too.

namespace bf::cuda {

template <class F>
__global__ void __launch_bounds__(256) for_each_kernel(std::int64_t n, F f) {
    for (std::int64_t i = blockIdx.x * std::int64_t{256} + threadIdx.x; i < n; i += gridDim.x * std::int64_t{256}) f(i);
}

/// f(i) for i in [0, n) on the context's stream.
template <class F>
void for_each(Context& context, std::int64_t n, const F& f) {
    if (n <= 0) return;
    const std::int64_t blocks = (n + 255) / 256;
    for_each_kernel<<<static_cast<unsigned>(blocks < 65536 ? blocks : 65536), 256, 0, backend(context).stream>>>(n, f);
    BF_CUDA(cudaGetLastError(), "elements ", n);
}

}  // namespace bf::cuda
