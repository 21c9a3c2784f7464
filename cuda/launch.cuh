#pragma once
#include "runtime.hpp"

// Launching kernels, and index functors: most kernels of this folder are a struct with
// `BF_HD void operator()(std::int64_t i) const`, kept in include/bf/math so that the tests run it on the CPU too.

namespace bf::cuda {

/// Queues the kernel on the context's stream; the caller looks at cudaGetLastError() and adds its sizes. The only
/// launch of this folder: tests/cuda_on_cpu puts its own in this place and compiles the rest as it is.
template <class... P, class... A>
void launch_kernel(Context& context, void (*kernel)(P...), dim3 blocks, dim3 threads, const A&... arguments) {
#ifdef BF_CUDA_ON_CPU
    cuda_on_cpu::launch(backend(context).stream, kernel, blocks, threads, arguments...);
#else
    kernel<<<blocks, threads, 0, backend(context).stream>>>(arguments...);
#endif
}

template <class F>
__global__ void __launch_bounds__(256) for_each_kernel(std::int64_t n, F f) {
    for (std::int64_t i = blockIdx.x * std::int64_t{256} + threadIdx.x; i < n; i += gridDim.x * std::int64_t{256}) f(i);
}

/// f(i) for i in [0, n) on the context's stream.
template <class F>
void for_each(Context& context, std::int64_t n, const F& f) {
    if (n <= 0) return;
    const std::int64_t blocks = (n + 255) / 256;
    launch_kernel(context, for_each_kernel<F>, static_cast<unsigned>(blocks < 65536 ? blocks : 65536), 256, n, f);
    BF_CUDA(cudaGetLastError(), "elements ", n);
}

}  // namespace bf::cuda
