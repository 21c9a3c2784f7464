#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <functional>

// Included in front of every source of cuda/ where g++ compiles it for the CPU (docs/decisions/011-cuda-on-cpu.md):
// the words of CUDA C++ that the kernels use, and the launch that launch.cuh takes in the place of <<<>>>.

#undef __global__
#undef __device__
#undef __shared__
#undef __launch_bounds__
#define __global__ [[maybe_unused]]
#define __device__ [[maybe_unused]]
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(...)

namespace bf::cuda_on_cpu {

/// What a thread of a kernel knows of its place.
struct Place {
    uint3 thread, block;
    dim3 threads, blocks;
};
extern Place place;

/// Runs body once for each thread of the grid, block after block. Threads of a block take turns at barriers.
void run_grid(dim3 blocks, dim3 threads, const std::function<void()>& body);

/// Runs work now, or when the graph is launched that the stream is captured into.
void queue(cudaStream_t stream, std::function<void()> work);

/// Barriers of the running thread. Of a block or a warp in which a thread never comes, the program ends with a message.
void wait_for_block();
void wait_for_warp();

/// 16 bytes through which a thread shows a value to its warp: its own, and those of another lane.
void* own_value();
const void* value_of_lane(unsigned lane);

inline unsigned thread_number() {
    return place.thread.x + place.threads.x * (place.thread.y + place.threads.y * place.thread.z);
}

template <class... P, class... A>
void launch(cudaStream_t stream, void (*kernel)(P...), dim3 blocks, dim3 threads, const A&... arguments) {
    queue(stream, [=] { run_grid(blocks, threads, [&] { kernel(arguments...); }); });
}

}  // namespace bf::cuda_on_cpu

namespace bf::cuda {

// The names that nvcc knows.
#define threadIdx (::bf::cuda_on_cpu::place.thread)
#define blockIdx (::bf::cuda_on_cpu::place.block)
#define blockDim (::bf::cuda_on_cpu::place.threads)
#define gridDim (::bf::cuda_on_cpu::place.blocks)

inline void __syncthreads() { cuda_on_cpu::wait_for_block(); }
inline void __syncwarp() { cuda_on_cpu::wait_for_warp(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned lane_mask) {
    static_assert(sizeof(T) <= 16);
    std::memcpy(cuda_on_cpu::own_value(), &value, sizeof value);
    cuda_on_cpu::wait_for_warp();
    std::memcpy(&value, cuda_on_cpu::value_of_lane((cuda_on_cpu::thread_number() ^ lane_mask) % 32), sizeof value);
    cuda_on_cpu::wait_for_warp();  // nobody shows the next value before all have read this one
    return value;
}

}  // namespace bf::cuda
