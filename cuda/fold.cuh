#pragma once
#include "bf/math/fold.hpp"
#include "elements.cuh"

// Running fold functors (bf/math/fold.hpp): one block a group of columns, a tree of fixed form in shared memory.

namespace bf::cuda {

template <class F>
__global__ void __launch_bounds__(math::fold_threads) fold_kernel(F f) {
    __shared__ typename F::State state[math::fold_threads];
    const int thread = static_cast<int>(threadIdx.x);
    const math::FoldPlace at = math::fold_place(thread, f.columns, F::adjacent);
    state[at.member * f.columns + at.column] = f.thread(blockIdx.x, at.member, at.column);
    __syncthreads();
    for (int distance = math::fold_threads / 2; distance >= f.columns; distance /= 2) {
        if (thread < distance) state[thread] = F::combine(state[thread], state[thread + distance]);
        if (distance > 32)
            __syncthreads();
        else
            __syncwarp();  // what is left lies in the first warp
    }
    __syncthreads();
    f.finish(blockIdx.x, at.member, at.column, state[at.column]);
}

/// Runs a fold functor over its blocks on the context's stream.
template <class F>
void fold(Context& context, std::int64_t blocks, const F& f) {
    if (blocks <= 0) return;
    launch_kernel(context, fold_kernel<F>, static_cast<unsigned>(blocks), math::fold_threads, f);
    BF_CUDA(cudaGetLastError(), "blocks ", blocks, " of ", f.columns, " columns");
}

}  // namespace bf::cuda
